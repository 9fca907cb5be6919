"""Decisions about the number of instances: within its bounds, and whose it is.

Of a deployment that follows its load the count is the autoscaler's: it is stored where an
operator's would be, and what an operator says of it is where the deployment begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headgate.registry import core
from headgate.registry.core import Happening
from headgate.registry.records import DeploymentRecord, Group, Moment, Outcome
from headgate_contracts import power, registry
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import DeploymentSpec, OperationStatus, ProvisioningState

# What may change while instances go on as they are.
SAME_VERSION = frozenset({"description", "tags", "properties", "instance_count", "scale_settings"})


def settled(record: DeploymentRecord) -> ProvisioningState:
    """The state as far as an operator's wishes go: what the autoscaler does bars none of them."""
    is_resized = record.state is ProvisioningState.SCALING
    if is_resized and record.operation.status is not OperationStatus.IN_PROGRESS:
        return ProvisioningState.SUCCEEDED
    return record.state


def within_bounds(spec: DeploymentSpec) -> DeploymentSpec:
    """Of a deployment that follows its load, the count is where it begins."""
    scale = spec.scale_settings
    if not scale.follows_load:
        return spec
    count = min(max(spec.instance_count, scale.least, 1), scale.most)
    return spec.model_copy(update={"instance_count": count})


def keep_count(old: DeploymentSpec, new: DeploymentSpec) -> DeploymentSpec:
    """Of a deployment that follows its load, the count is not the operator's but the load's.

    A version that has never run needs an instance to show that it can.
    """
    scale = new.scale_settings
    if not scale.follows_load:
        return new
    proving = 0 if SAME_VERSION.issuperset(core.changed(old, new)) else 1
    count = min(max(old.instance_count, scale.least, proving), scale.most)
    return new.model_copy(update={"instance_count": count})


def scale(group: Group | None, command: power.ScaleDeployment, moment: Moment) -> Outcome:
    """Set the count. Nobody waits for an operation: what one did before stays what it was.

    A change of size gets a generation of its own, so that a report about the size before does not
    end it; within anything else that goes on, or has failed, only the count changes.
    """
    found = core.visible(group, command.workspace, command.endpoint)
    record = found.deployments.get(command.name)
    if record is None:
        raise core.absent_deployment(command.endpoint, command.name)
    old, count = record.value, command.instance_count
    if command.if_count is not None and command.if_count != old.spec.instance_count:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"the deployment {command.name!r} has {old.spec.instance_count} instances, "
            f"not {command.if_count}; decide again",
            "instance_count",
        )
    if old.is_stopped:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"the deployment {command.name!r} is stopped; start it first",
        )
    if count == old.spec.instance_count:
        return Outcome(found)
    state = core.deployment_after(record.state, Happening.RESIZE, command.name, record.operation)
    changes: dict[str, Any] = {
        "spec": old.spec.model_copy(update={"instance_count": count}),
        "provisioning_state": state,
        **moment.touched,
    }
    if state is ProvisioningState.SCALING:
        changes["generation"] = moment.revision
    value = old.model_copy(update=changes)
    event = registry.DeploymentUpdated(
        **core.about(value), fields=("instance_count",), instance_count=count
    )
    return Outcome(found.having(replace(record, value=value)), events=(event,))


def check(spec: DeploymentSpec) -> None:
    """Refuse bounds that are none."""
    scale = spec.scale_settings
    if scale.max_instances is not None and scale.least > scale.max_instances:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"min_instances is {scale.least} and max_instances {scale.max_instances}; the most "
            "must not be below the least",
            "scale_settings.max_instances",
        )
