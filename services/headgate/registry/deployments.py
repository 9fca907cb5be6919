"""Decisions about deployments: pure functions from a group and a command to an outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from headgate.registry import core, scaling, traffic
from headgate.registry.core import Happening
from headgate.registry.records import DeploymentRecord, Group, Moment, Outcome
from headgate_contracts import limits, power, refreshing, registry
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, ErrorDetail, WireError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.resources import (
    CodeConfiguration,
    Deployment,
    DeploymentSpec,
    Operation,
    OperationStatus,
    ProvisioningState,
)

# Fields that describe a deployment: to change them needs no new instances.
LABELS = frozenset({"description", "tags", "properties"})
PROGRESS_STEP_PERCENT = 1.0
ERROR_DETAILS_MAX = 5
ERROR_DETAILS_CHARS_MAX = 4_096  # together


@dataclass(frozen=True, slots=True)
class Resolved:
    """A wanted deployment with its references resolved to versions that exist."""

    spec: DeploymentSpec
    scoring_path: str = "/score"


def put(
    group: Group | None, command: registry.PutDeployment, wanted: Resolved, moment: Moment
) -> Outcome:
    """Create the deployment, or replace what it should be."""
    spec = wanted.spec
    found = core.visible(group, command.workspace, spec.endpoint_name)
    core.check_size(spec)
    _check_spec(spec)
    if found.endpoint.is_deleting:
        core.endpoint_after(found, Happening.UPDATE)
    record = found.deployments.get(spec.name)
    if record is None:
        core.check_absent(f"the deployment {spec.name!r}", command)
        return _create(found, wanted, moment)
    core.check_put(f"the deployment {spec.name!r}", command, record.value.revision)
    spec = scaling.keep_count(record.value.spec, _keep_fixed(record.value.spec, spec))
    return _update(found, record, replace(wanted, spec=spec), moment)


def _create(group: Group, wanted: Resolved, moment: Moment) -> Outcome:
    spec = scaling.within_bounds(wanted.spec)
    core.check_new_deployment(group.name, len(group.deployments))
    operation = core.begun("create", group.workspace, core.path(group.name, spec.name), moment)
    value = Deployment(
        workspace=group.workspace,
        spec=spec,
        generation=moment.revision,
        **moment.made,
    )
    record = DeploymentRecord(value, operation, scoring_path=wanted.scoring_path)
    event = registry.DeploymentCreated(**core.about(value), instance_count=spec.instance_count)
    return Outcome(group.having(record), (operation,), (event,), created=True)


def _update(group: Group, record: DeploymentRecord, wanted: Resolved, moment: Moment) -> Outcome:
    """New labels are stored and that is all; anything else makes a new generation.

    The same again is a no-op, but on a failed deployment it is the wish to try once more.
    """
    old, new = record.value, wanted.spec
    fields = core.changed(old.spec, new)
    resource = core.path(group.name, new.name)
    happening = Happening.SCALE if fields == ("instance_count",) else Happening.UPDATE
    state = core.deployment_after(scaling.settled(record), happening, new.name, record.operation)
    failed = record.state is ProvisioningState.FAILED
    if not fields and not failed:
        return Outcome(group, (core.done("update", group.workspace, resource, moment),))
    changes: dict[str, Any] = {"spec": new, **moment.touched}
    if fields and LABELS.issuperset(fields):
        operation = core.done("update", group.workspace, resource, moment)
    else:
        operation = core.begun("update", group.workspace, resource, moment)
        changes |= {"provisioning_state": state, "generation": moment.revision, "error": None}
    if "environment" in fields:
        changes["environment_build"] = ""
    value = old.model_copy(update=changes)
    record = replace(record, value=value, operation=operation, scoring_path=wanted.scoring_path)
    event = registry.DeploymentUpdated(
        **core.about(value), fields=fields, instance_count=new.instance_count
    )
    return Outcome(group.having(record), (operation,), (event,))


def _check_spec(spec: DeploymentSpec) -> None:
    """Rules that go beyond the form of single fields."""
    if spec.liveness_probe.success_threshold != 1:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            "liveness_probe.success_threshold must be 1",
            "liveness_probe.success_threshold",
        )
    check_script(spec.code_configuration)
    scaling.check(spec)


def check_instance_type(group: Group, spec: DeploymentSpec, sizes: InstanceTypes) -> None:
    """Refuse an unknown instance type; one that a deployment already has may have become that."""
    record = group.deployments.get(spec.name)
    if record is None or record.value.spec.instance_type != spec.instance_type:
        sizes.find(spec.instance_type)


def check_script(code: CodeConfiguration | None) -> None:
    """Refuse a scoring script outside its code folder."""
    if code is not None:
        script = PurePosixPath(code.scoring_script)
        if script.is_absolute() or ".." in script.parts or "\0" in code.scoring_script:
            raise core.error(
                ErrorCode.BAD_ARGUMENT,
                "code_configuration.scoring_script must be a path inside the code folder, "
                f"not {code.scoring_script[:200]!r}",
                "code_configuration.scoring_script",
            )


def _keep_fixed(old: DeploymentSpec, new: DeploymentSpec) -> DeploymentSpec:
    if new.egress_public_network_access != old.egress_public_network_access:
        raise core.fixed(
            "egress_public_network_access",
            old.egress_public_network_access,
            new.egress_public_network_access,
        )
    return new.model_copy(update={"properties": core.added(old, new)})


def delete(group: Group | None, command: registry.DeleteDeployment, moment: Moment) -> Outcome:
    """Begin to delete the deployment; it goes when its last instance has."""
    what = f"the deployment {command.name!r}"
    visible = group is not None and group.workspace == command.workspace
    record = group.deployments.get(command.name) if group is not None and visible else None
    if group is None or record is None:
        core.check_absent(what, command)
        return Outcome(group)
    if record.is_deleting:
        return Outcome(group, (record.operation,))
    core.check_revision(what, command, record.value.revision)
    traffic.refuse_deletion(group, command.name)
    return withdraw(group, record, moment)


def withdraw(group: Group, record: DeploymentRecord, moment: Moment) -> Outcome:
    """The deployment on its way out; what was under way with it is cancelled."""
    old = record.value
    name = old.spec.name
    state = core.deployment_after(old.provisioning_state, Happening.DELETE, name, record.operation)
    value = old.model_copy(
        update={
            "provisioning_state": state,
            "error": None,
            **moment.touched,
        }
    )
    operation = core.begun("delete", group.workspace, core.path(group.name, name), moment)
    operations = (operation, *_cancelled(record.operation, moment))
    event = registry.DeploymentDeleting(**core.about(value))
    return Outcome(
        group.having(replace(record, value=value, operation=operation)), operations, (event,)
    )


def set_power(group: Group | None, command: core.Power, moment: Moment) -> Outcome:
    """Stop the deployment or start it. What is so already is left alone."""
    found = core.visible(group, command.workspace, command.endpoint)
    record = found.deployments.get(command.name)
    if record is None:
        raise core.absent_deployment(command.endpoint, command.name)
    core.check_revision(f"the deployment {command.name!r}", command, record.value.revision)
    stops = isinstance(command, power.StopDeployment)
    resource = core.path(found.name, command.name)
    if record.value.is_stopped == stops and not record.is_deleting:
        return Outcome(found, (core.done("update", found.workspace, resource, moment),))
    record, operation = _renewed(found, record, {"is_stopped": stops}, moment)
    about = core.about(record.value)
    event = (power.DeploymentStopping if stops else power.DeploymentStarting)(**about)
    return Outcome(found.having(record), (operation,), (event,))


def refresh(group: Group | None, command: refreshing.RefreshDeployment, moment: Moment) -> Outcome:
    """Let the deployment run on a new build of its environment, as an update of it."""
    found = core.visible(group, command.workspace, command.endpoint)
    record = found.deployments.get(command.name)
    if record is None:
        raise core.absent_deployment(command.endpoint, command.name)
    resource = core.path(found.name, command.name)
    if record.value.environment_build == command.build and not record.is_deleting:
        return Outcome(found, (core.done("update", found.workspace, resource, moment),))
    changes = {"environment_build": command.build}
    record, operation = _renewed(found, record, changes, moment)
    event = refreshing.DeploymentRefreshing(
        **core.about(record.value), build=command.build, changes=command.changes
    )
    return Outcome(found.having(record), (operation,), (event,))


def _renewed(
    group: Group, record: DeploymentRecord, changes: dict[str, Any], moment: Moment
) -> tuple[DeploymentRecord, Operation]:
    """A new generation of the deployment, and the operation that ends when it runs."""
    name = record.value.spec.name
    before = scaling.settled(record)
    state = core.deployment_after(before, Happening.UPDATE, name, record.operation)
    operation = core.begun("update", group.workspace, core.path(group.name, name), moment)
    value = record.value.model_copy(
        update={
            **changes,
            "provisioning_state": state,
            "generation": moment.revision,
            "error": None,
            **moment.touched,
        }
    )
    return replace(record, value=value, operation=operation), operation


def _cancelled(operation: Operation, moment: Moment) -> tuple[Operation, ...]:
    if operation.status is not OperationStatus.IN_PROGRESS:
        return ()
    why = WireError(
        code=ErrorCode.OPERATION_CANCELED, message="the deployment was deleted meanwhile"
    )
    return (core.ended(operation, OperationStatus.CANCELED, moment, why),)


# --- reports of the provisioner ----------------------------------------------------------------


def report(group: Group | None, word: registry.ReportDeployment, moment: Moment) -> Outcome:
    """Take in how a deployment fares. Words about another generation are too late and ignored."""
    unchanged = Outcome(group)
    if group is None or group.workspace != word.workspace:
        return unchanged
    record = group.deployments.get(word.name)
    if record is None or record.value.generation != word.generation:
        return unchanged
    if word.outcome == "gone":
        return _gone(group, record, moment)
    if word.outcome == "progressing" or record.is_deleting:
        return _progress(group, record, word)
    if word.outcome == "succeeded":
        return _succeed(group, record, word, moment)
    return _fail(group, record, word, moment)


def _progress(group: Group, record: DeploymentRecord, word: registry.ReportDeployment) -> Outcome:
    """Figures only: no revision, no event, and no write unless they moved."""
    operation = record.operation
    operations: tuple[Operation, ...] = ()
    percent = min(max(word.percent_complete, 0.0), 99.0)
    running = operation.status is OperationStatus.IN_PROGRESS
    if running and percent >= operation.percent_complete + PROGRESS_STEP_PERCENT:
        operation = operation.model_copy(update={"percent_complete": percent})
        operations = (operation,)
    value = _counted(record.value, word)
    return Outcome(group.having(replace(record, value=value, operation=operation)), operations)


def _succeed(
    group: Group, record: DeploymentRecord, word: registry.ReportDeployment, moment: Moment
) -> Outcome:
    state = _moved(record, Happening.READY)
    if record.state is state:
        return _progress(group, record, word)
    value = _counted(record.value, word).model_copy(
        update={
            "provisioning_state": state,
            "error": None,
            **moment.touched,
        }
    )
    operation, operations = _end(record.operation, OperationStatus.SUCCEEDED, moment)
    record = replace(record, value=value, operation=operation)
    event: Event
    if value.is_stopped:
        event = power.DeploymentStopped(**core.about(value))
    else:
        record = replace(record, was_ready=True)
        event = registry.DeploymentSucceeded(
            **core.about(value), ready_instances=value.ready_instances
        )
    return Outcome(group.having(record), operations, (event,))


def _fail(
    group: Group, record: DeploymentRecord, word: registry.ReportDeployment, moment: Moment
) -> Outcome:
    if word.error is None:
        raise core.error(ErrorCode.BAD_ARGUMENT, "a report of a failure must say why", "error")
    why = _shortened(word.error)
    state = _moved(record, Happening.FAIL)
    if record.state is state and record.value.error == why:
        return _progress(group, record, word)
    value = _counted(record.value, word).model_copy(
        update={
            "provisioning_state": state,
            "error": why,
            **moment.touched,
        }
    )
    operation, operations = _end(record.operation, OperationStatus.FAILED, moment, why)
    event = registry.DeploymentFailed(**core.about(value), error=why)
    record = replace(record, value=value, operation=operation)
    return Outcome(group.having(record), operations, (event,))


def _gone(group: Group, record: DeploymentRecord, moment: Moment) -> Outcome:
    _moved(record, Happening.GONE)
    group = group.without(record.value.spec.name)
    operation = core.ended(record.operation, OperationStatus.SUCCEEDED, moment)
    about = {**core.about(record.value), "revision": moment.revision}
    events: tuple[Event, ...] = (registry.DeploymentDeleted(**about),)
    if not group.endpoint.is_deleting or group.deployments:
        return Outcome(group, (operation,), events)
    last = core.ended(group.endpoint.operation, OperationStatus.SUCCEEDED, moment)
    end = registry.EndpointDeleted(
        workspace=group.workspace, endpoint=group.name, revision=moment.revision
    )
    return Outcome(None, (operation, last), (*events, end))


def _moved(record: DeploymentRecord, happening: Happening) -> ProvisioningState | None:
    """The state after a report; one that the table does not know is the provisioner's fault."""
    key = (record.state, happening)
    if key not in core.DEPLOYMENT_LIFE:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"the deployment {record.value.spec.name!r} is {record.state}, not {happening}",
        )
    return core.DEPLOYMENT_LIFE[key]


def _end(
    operation: Operation, status: OperationStatus, moment: Moment, why: WireError | None = None
) -> tuple[Operation, tuple[Operation, ...]]:
    if operation.status is not OperationStatus.IN_PROGRESS:
        return operation, ()
    operation = core.ended(operation, status, moment, why)
    return operation, (operation,)


def _counted(value: Deployment, word: registry.ReportDeployment) -> Deployment:
    ready = max(0, word.ready_instances)
    return (
        value
        if value.ready_instances == ready
        else value.model_copy(update={"ready_instances": ready})
    )


def _shortened(why: WireError) -> WireError:
    """An error as it is kept: a script may say a lot, and an event has its limit."""
    details: list[ErrorDetail] = []
    left = ERROR_DETAILS_CHARS_MAX
    for each in why.details[:ERROR_DETAILS_MAX]:
        text = each.message[:left]
        left -= len(text)
        details.append(ErrorDetail(code=each.code[:80], message=text, target=each.target[:80]))
    return why.model_copy(
        update={
            "message": why.message[: limits.ERROR_MESSAGE_CHARS_MAX],
            "target": why.target[:80],
            "details": tuple(details),
        }
    )
