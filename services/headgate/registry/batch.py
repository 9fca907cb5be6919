"""Decisions about batch endpoints and deployments: pure functions, a group and a command in.

Nothing runs until a job comes, so every change succeeds at once or is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.registry import core
from headgate.registry.deployments import check_script
from headgate.registry.records import Moment
from headgate_contracts import batch
from headgate_contracts.batch import (
    BatchDeployment,
    BatchDeploymentSpec,
    BatchEndpoint,
    BatchEndpointSpec,
)
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Model, Operation

DEFAULT = "defaults.deployment_name"
SHOWN_MAX = 10  # computes that a refusal names


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """A batch endpoint and its deployments by name."""

    endpoint: BatchEndpoint
    deployments: Mapping[str, BatchDeployment] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.endpoint.spec.name

    @property
    def workspace(self) -> str:
        return self.endpoint.workspace


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What is stored from now on (``group`` None: the endpoint is gone), and what is told."""

    group: BatchGroup | None
    operation: Operation | None = None
    events: tuple[Event, ...] = ()
    created: bool = False


def path(endpoint: str, deployment: str = "") -> str:
    """How operations name their resource."""
    return f"batchEndpoints/{endpoint}" + (f"/deployments/{deployment}" if deployment else "")


def visible(group: BatchGroup | None, workspace: str, name: str) -> BatchGroup:
    """The group, unless it belongs to another workspace: that is the same as absent."""
    if group is None or group.workspace != workspace:
        raise absent_endpoint(name)
    return group


def absent_endpoint(name: str) -> HeadgateError:
    return core.error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"there is no batch endpoint {name[:80]!r} in this workspace",
        name[:80],
    )


def unknown_compute(name: str, known: Sequence[str]) -> HeadgateError:
    """The refusal of a deployment on a compute that is none of the workspace's."""
    others = ", ".join(known[:SHOWN_MAX]) + (", ..." if len(known) > SHOWN_MAX else "")
    return core.error(
        ErrorCode.BAD_ARGUMENT,
        f"compute: there is no compute {name[:80]!r} in this workspace (known: {others or 'none'});"
        f" make it first: 'headgate compute create --name {name[:80]}'",
        "compute",
    )


def absent_deployment(endpoint: str, name: str) -> HeadgateError:
    return core.error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"the batch endpoint {endpoint[:80]!r} has no deployment {name[:80]!r}",
        name[:80],
    )


# --- endpoints ---------------------------------------------------------------------------------


def put_endpoint(
    group: BatchGroup | None, command: batch.PutBatchEndpoint, moment: Moment
) -> BatchOutcome:
    """Create the endpoint, or replace its settings."""
    spec = command.spec
    what = f"the batch endpoint {spec.name!r}"
    core.check_workspace(command.workspace)
    core.check_size(spec)
    if group is None:
        core.check_absent(what, command)
        return _create_endpoint(command, moment)
    if group.workspace != command.workspace:
        raise core.taken(spec.name)
    stored = group.endpoint
    core.check_put(what, command, stored.revision)
    kept = {
        "properties": core.added(stored.spec, spec),
        "public_network_access": spec.public_network_access or stored.spec.public_network_access,
    }
    spec = spec.model_copy(update=kept)
    _check_default(spec, group.deployments)
    operation = core.done("update", group.workspace, path(spec.name), moment)
    fields = core.changed(stored.spec, spec)
    if not fields:
        return BatchOutcome(group, operation)
    value = stored.model_copy(update={"spec": spec, **_touched(command.by, moment)})
    event = batch.BatchEndpointUpdated(**_about(value), fields=fields)
    return BatchOutcome(replace(group, endpoint=value), operation, (event,))


def _create_endpoint(command: batch.PutBatchEndpoint, moment: Moment) -> BatchOutcome:
    access = command.spec.public_network_access or "enabled"
    spec = command.spec.model_copy(update={"public_network_access": access})
    core.check_new_endpoint(spec.name, moment)
    _check_default(spec, {})
    value = BatchEndpoint(
        workspace=command.workspace,
        spec=spec,
        created_at=moment.now,
        created_by=command.by,
        **_touched(command.by, moment),
    )
    operation = core.done("create", command.workspace, path(spec.name), moment)
    event = batch.BatchEndpointCreated(**_about(value))
    return BatchOutcome(BatchGroup(value), operation, (event,), created=True)


def _check_default(spec: BatchEndpointSpec, known: Mapping[str, BatchDeployment]) -> None:
    name = spec.defaults.deployment_name
    if name is not None and name not in known:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"the default deployment {name!r} does not exist on this endpoint; create the "
            "deployment first, then make it the default",
            DEFAULT,
        )


def delete_endpoint(
    group: BatchGroup | None, command: batch.DeleteBatchEndpoint, moment: Moment
) -> BatchOutcome:
    """Delete the endpoint with its deployments. Jobs under way hold what they need and go on."""
    what = f"the endpoint {command.name!r}"
    if group is None or group.workspace != command.workspace:
        core.check_absent(what, command)
        return BatchOutcome(group)
    core.check_revision(what, command, group.endpoint.revision)
    operation = core.done("delete", group.workspace, path(group.name), moment)
    events = [_deleted(each, moment) for each in group.deployments.values()]
    about = {**_about(group.endpoint), "revision": moment.revision}
    return BatchOutcome(None, operation, (*events, batch.BatchEndpointDeleted(**about)))


# --- deployments -------------------------------------------------------------------------------


def put_deployment(
    group: BatchGroup | None,
    command: batch.PutBatchDeployment,
    wanted: BatchDeploymentSpec,
    model: Model | None,
    moment: Moment,
) -> BatchOutcome:
    """Create the deployment, or replace it. ``wanted`` has references to versions that exist."""
    found = visible(group, command.workspace, wanted.endpoint_name)
    what = f"the deployment {wanted.name!r}"
    core.check_size(wanted)
    check_script(wanted.code_configuration)
    _check_runnable(wanted, model)
    stored = found.deployments.get(wanted.name)
    resource = path(found.name, wanted.name)
    if stored is None:
        core.check_absent(what, command)
        core.check_new_deployment(found.name, len(found.deployments))
        value = BatchDeployment(
            workspace=found.workspace,
            spec=wanted,
            created_at=moment.now,
            created_by=command.by,
            **_touched(command.by, moment),
        )
        operation = core.done("create", found.workspace, resource, moment)
        event: Event = batch.BatchDeploymentCreated(**_about(value))
        return BatchOutcome(_having(found, value), operation, (event,), created=True)
    core.check_put(what, command, stored.revision)
    spec = wanted.model_copy(update={"properties": core.added(stored.spec, wanted)})
    operation = core.done("update", found.workspace, resource, moment)
    fields = core.changed(stored.spec, spec)
    if not fields:
        return BatchOutcome(found, operation)
    value = stored.model_copy(update={"spec": spec, **_touched(command.by, moment)})
    event = batch.BatchDeploymentUpdated(**_about(value), fields=fields)
    return BatchOutcome(_having(found, value), operation, (event,))


def _check_runnable(spec: BatchDeploymentSpec, model: Model | None) -> None:
    """Only a model that says itself how it is run needs no script and no environment."""
    if model is None:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            "a batch deployment needs a model: azureml:<name>:<version> or azureml:<name>@latest",
            "model",
        )
    if model.spec.type == "mlflow_model":
        return
    for name in ("code_configuration", "environment"):
        if getattr(spec, name) is None:
            raise core.error(
                ErrorCode.BAD_ARGUMENT,
                f"{name} is required, because the model {model.spec.name!r} is a "
                f"{model.spec.type}; only an mlflow_model does without",
                name,
            )


def delete_deployment(
    group: BatchGroup | None, command: batch.DeleteBatchDeployment, moment: Moment
) -> BatchOutcome:
    """Delete the deployment, unless it is the default.

    The default gets every invocation that names no deployment: it is to a batch endpoint what
    live traffic is to an online one, and like that it has to be moved first.
    """
    what = f"the deployment {command.name!r}"
    visible = group is not None and group.workspace == command.workspace
    stored = group.deployments.get(command.name) if group is not None and visible else None
    if group is None or stored is None:
        core.check_absent(what, command)
        return BatchOutcome(group)
    core.check_revision(what, command, stored.revision)
    if group.endpoint.spec.defaults.deployment_name == command.name:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"the deployment {command.name!r} cannot be deleted while it is the default of the "
            "endpoint; make another one the default first, for example: headgate batch-endpoint "
            f"update --name {group.name} --defaults deployment_name=<other>, or none: "
            f"--remove {DEFAULT}",
            command.name,
        )
    kept = {name: each for name, each in group.deployments.items() if name != command.name}
    operation = core.done("delete", group.workspace, path(group.name, command.name), moment)
    return BatchOutcome(replace(group, deployments=kept), operation, (_deleted(stored, moment),))


def _deleted(deployment: BatchDeployment, moment: Moment) -> Event:
    return batch.BatchDeploymentDeleted(**{**_about(deployment), "revision": moment.revision})


def _having(group: BatchGroup, value: BatchDeployment) -> BatchGroup:
    return replace(group, deployments={**group.deployments, value.spec.name: value})


def _touched(by: str, moment: Moment) -> dict[str, Any]:
    return {"revision": moment.revision, "updated_at": moment.now, "updated_by": by}


def _about(value: BatchEndpoint | BatchDeployment) -> dict[str, Any]:
    about = {"workspace": value.workspace, "revision": value.revision}
    if isinstance(value, BatchDeployment):
        return {**about, "endpoint": value.spec.endpoint_name, "deployment": value.spec.name}
    return {**about, "endpoint": value.spec.name}
