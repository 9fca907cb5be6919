"""What all decisions of the registry share: lifecycles as tables, operations, the route.

A lifecycle event that is missing from its table is refused as a conflict. The decisions themselves
are pure functions too, in ``endpoints``, ``deployments``, ``traffic`` and ``assets``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeVar

from headgate.registry.records import DeploymentRecord, Group, Moment
from headgate_contracts import batch, limits, power, registry, storage
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.quotas import Quota
from headgate_contracts.resources import (
    AuthMode,
    Deployment,
    DeploymentSpec,
    EndpointSpec,
    Operation,
    OperationStatus,
    ProvisioningState,
)
from headgate_contracts.scoring import DeploymentRoute, KeyDigest, Route

_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
S = ProvisioningState
Spec = TypeVar("Spec", EndpointSpec, DeploymentSpec, BatchEndpointSpec, BatchDeploymentSpec)


class Happening(StrEnum):
    """What moves a resource from one state to another."""

    CREATE = "create"
    UPDATE = "update"
    SCALE = "scale"
    RESIZE = "resize"  # by the autoscaler
    READY = "ready"
    FAIL = "fail"
    DELETE = "delete"
    GONE = "gone"


H = Happening
# None is "does not exist".
Life = Mapping[tuple[ProvisioningState | None, Happening], ProvisioningState | None]

ENDPOINT_LIFE: Life = {
    (None, H.CREATE): S.SUCCEEDED,
    (S.SUCCEEDED, H.UPDATE): S.SUCCEEDED,
    (S.SUCCEEDED, H.DELETE): S.DELETING,
    (S.DELETING, H.GONE): None,
}
DEPLOYMENT_LIFE: Life = {
    (None, H.CREATE): S.CREATING,
    (S.CREATING, H.READY): S.SUCCEEDED,
    (S.CREATING, H.FAIL): S.FAILED,
    (S.CREATING, H.DELETE): S.DELETING,
    (S.CREATING, H.RESIZE): S.CREATING,
    (S.UPDATING, H.READY): S.SUCCEEDED,
    (S.UPDATING, H.FAIL): S.FAILED,
    (S.UPDATING, H.DELETE): S.DELETING,
    (S.UPDATING, H.RESIZE): S.UPDATING,
    (S.SCALING, H.READY): S.SUCCEEDED,
    (S.SCALING, H.FAIL): S.FAILED,
    (S.SCALING, H.RESIZE): S.SCALING,
    (S.SCALING, H.DELETE): S.DELETING,
    (S.SUCCEEDED, H.UPDATE): S.UPDATING,
    (S.SUCCEEDED, H.SCALE): S.SCALING,
    (S.SUCCEEDED, H.RESIZE): S.SCALING,
    (S.SUCCEEDED, H.READY): S.SUCCEEDED,
    (S.SUCCEEDED, H.FAIL): S.FAILED,
    (S.SUCCEEDED, H.DELETE): S.DELETING,
    (S.FAILED, H.UPDATE): S.UPDATING,
    (S.FAILED, H.SCALE): S.UPDATING,
    (S.FAILED, H.READY): S.SUCCEEDED,
    (S.FAILED, H.FAIL): S.FAILED,
    (S.FAILED, H.DELETE): S.DELETING,
    (S.FAILED, H.RESIZE): S.FAILED,
    (S.DELETING, H.GONE): None,
}
_DOING = {S.CREATING: "created", S.UPDATING: "updated", S.SCALING: "scaled", S.DELETING: "deleted"}


def endpoint_after(group: Group, happening: Happening) -> ProvisioningState:
    """The endpoint's next state; refused when the table has none."""
    state = group.endpoint.value.provisioning_state
    return _after(
        ENDPOINT_LIFE, state, happening, f"the endpoint {group.name!r}", group.endpoint.operation
    )


def deployment_after(
    state: ProvisioningState, happening: Happening, name: str, operation: Operation
) -> ProvisioningState:
    """The deployment's next state; refused when the table has none."""
    return _after(DEPLOYMENT_LIFE, state, happening, f"the deployment {name!r}", operation)


def _after(
    life: Life, state: ProvisioningState, happening: Happening, what: str, operation: Operation
) -> ProvisioningState:
    after = life.get((state, happening))
    if after is not None:
        return after
    if state in _DOING:
        hint = "" if state is S.DELETING else ", or delete it to give up"
        raise error(
            ErrorCode.RESOURCE_CONFLICT,
            f"{what} is being {_DOING[state]} (operation {operation.id}); "
            f"wait until that has ended{hint}",
        )
    raise error(ErrorCode.RESOURCE_CONFLICT, f"{what} is {state}: {happening} is not possible now")


def visible(group: Group | None, workspace: str, name: str) -> Group:
    """The group, unless it belongs to another workspace: that is the same as absent."""
    if group is None or group.workspace != workspace:
        raise absent_endpoint(name)
    return group


def absent_endpoint(name: str) -> HeadgateError:
    return error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"there is no endpoint {name[:80]!r} in this workspace",
        name[:80],
    )


def absent_deployment(endpoint: str, name: str) -> HeadgateError:
    return error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"the endpoint {endpoint[:80]!r} has no deployment {name[:80]!r}",
        name[:80],
    )


def taken(name: str) -> HeadgateError:
    """The refusal of an endpoint name that belongs to somebody else or to another kind."""
    return error(
        ErrorCode.RESOURCE_EXISTS,
        f"the endpoint name {name!r} is taken on this installation (online and batch endpoints "
        "share their names); choose another",
        "name",
    )


def check_new_endpoint(name: str, moment: Moment) -> None:
    """Refuse one endpoint too many, or a name that an endpoint of the other kind has."""
    if moment.is_taken:
        raise taken(name)
    if moment.endpoints >= limits.ENDPOINTS_MAX:
        raise error(
            ErrorCode.QUOTA_EXCEEDED,
            f"this installation has {moment.endpoints} endpoints, and {limits.ENDPOINTS_MAX} "
            "is the most; delete one first",
        )


def check_new_deployment(endpoint: str, deployments: int) -> None:
    """Refuse one deployment too many."""
    if deployments >= limits.DEPLOYMENTS_PER_ENDPOINT_MAX:
        raise error(
            ErrorCode.QUOTA_EXCEEDED,
            f"the endpoint {endpoint!r} has {deployments} deployments, and "
            f"{limits.DEPLOYMENTS_PER_ENDPOINT_MAX} is the most; delete one first",
        )


Put = (
    registry.PutEndpoint
    | registry.PutDeployment
    | batch.PutBatchEndpoint
    | batch.PutBatchDeployment
    | storage.PutDatastore
    | storage.PutCompute
)


Delete = (
    registry.DeleteEndpoint
    | registry.DeleteDeployment
    | batch.DeleteBatchEndpoint
    | batch.DeleteBatchDeployment
    | storage.DeleteDatastore
    | storage.DeleteCompute
)
Power = power.StopDeployment | power.StartDeployment


def check_absent(what: str, command: Put | Delete) -> None:
    """Refuse to create or delete what the caller believes to know."""
    if command.if_revision is not None:
        raise error(
            ErrorCode.REVISION_MISMATCH,
            f"{what} does not exist (any more), so it has no revision {command.if_revision}",
        )


def check_put(what: str, command: Put, revision: int) -> None:
    """Refuse to replace what the caller wanted to create, or has not seen as it is."""
    if command.create_only:
        raise error(
            ErrorCode.RESOURCE_EXISTS, f"{what} exists already; update it, or choose another name"
        )
    check_revision(what, command, revision)


def check_revision(what: str, command: Put | Delete | Power, revision: int) -> None:
    """Refuse to touch what the caller has not seen as it is."""
    if command.if_revision is not None and command.if_revision != revision:
        raise error(
            ErrorCode.REVISION_MISMATCH,
            f"{what} has been changed meanwhile: its revision is {revision}, "
            f"not {command.if_revision}; read it again and repeat the change",
        )


def check_workspace(workspace: str) -> None:
    """Refuse a workspace that could not stand in an address."""
    if not _WORKSPACE.match(workspace):
        raise error(
            ErrorCode.INVALID_NAME,
            f"{workspace[:80]!r} is no workspace name: 1 to 64 letters, digits, '-', '_' and '.', "
            "a letter or digit first",
            "workspace",
        )


def check_size(spec: Value) -> None:
    """Refuse a specification that would not travel well in lists of many."""
    size = len(spec.model_dump_json().encode())
    if size > limits.SPEC_BYTES_MAX:
        raise error(
            ErrorCode.BAD_ARGUMENT,
            f"the specification has {size} bytes; at most {limits.SPEC_BYTES_MAX} are kept",
        )


def changed(old: Value, new: Value) -> tuple[str, ...]:
    """Names of the fields in which two values of one type differ."""
    fields = type(old).model_fields
    return tuple(field for field in fields if getattr(old, field) != getattr(new, field))


def added(old: Spec, new: Spec) -> dict[str, str]:
    """Properties are add-only: what is left out stays, what is there cannot change."""
    for key, value in new.properties.items():
        if old.properties.get(key, value) != value:
            raise error(
                ErrorCode.BAD_ARGUMENT,
                f"the property {key!r} is {old.properties[key]!r} and cannot be changed: "
                "properties can only be added (tags can be changed)",
                f"properties.{key}",
            )
    return {**old.properties, **new.properties}


def fixed(field: str, old: str, new: str) -> HeadgateError:
    return error(
        ErrorCode.BAD_ARGUMENT,
        f"{field} is {old} since creation and cannot become {new}; "
        "delete the resource and create it anew to change it",
        field,
    )


# --- operations --------------------------------------------------------------------------------

Kind = Literal["create", "update", "delete"]


def path(endpoint: str, deployment: str = "") -> str:
    """How operations name their resource."""
    return f"endpoints/{endpoint}" + (f"/deployments/{deployment}" if deployment else "")


def begun(kind: Kind, workspace: str, resource: str, moment: Moment) -> Operation:
    """A new operation that goes on."""
    return Operation(
        id=moment.id_for(f"{kind} {resource}"),
        workspace=workspace,
        kind=kind,
        resource=resource,
        started_at=moment.now,
    )


def done(kind: Kind, workspace: str, resource: str, moment: Moment) -> Operation:
    """A new operation that has succeeded already."""
    return ended(begun(kind, workspace, resource, moment), OperationStatus.SUCCEEDED, moment)


def ended(
    operation: Operation, status: OperationStatus, moment: Moment, why: WireError | None = None
) -> Operation:
    """The operation at its end."""
    percent = 100.0 if status is OperationStatus.SUCCEEDED else operation.percent_complete
    return operation.model_copy(
        update={
            "status": status,
            "ended_at": moment.now,
            "percent_complete": percent,
            "error": why,
        }
    )


# --- the route ---------------------------------------------------------------------------------


def route(group: Group | None, revision: int = 0, quotas: tuple[Quota, ...] = ()) -> Route | None:
    """What routers must know of an endpoint; None when nothing may be routed to it."""
    if group is None or group.endpoint.is_deleting:
        return None
    spec, kept = group.endpoint.value.spec, group.endpoint.keys
    keys = (kept.primary, kept.secondary) if spec.auth_mode is AuthMode.KEY else ()
    live = {name: each for name, each in group.deployments.items() if not each.is_deleting}
    return Route(
        workspace=group.workspace,
        endpoint=group.name,
        revision=revision,
        auth_mode=spec.auth_mode.value,
        is_public=spec.public_network_access == "enabled",
        keys=tuple(KeyDigest(id=key.id, sha256=key.sha256) for key in keys),
        tokens_not_before=group.endpoint.tokens_not_before,
        traffic=spec.traffic,
        mirror_traffic=spec.mirror_traffic,
        deployments={name: _deployment_route(each) for name, each in live.items()},
        quotas=quotas,
    )


def _deployment_route(record: DeploymentRecord) -> DeploymentRoute:
    spec = record.value.spec
    route = DeploymentRoute(
        max_concurrent_requests_per_instance=(
            spec.request_settings.max_concurrent_requests_per_instance
        ),
        request_timeout_ms=spec.request_settings.request_timeout_ms,
        scoring_path=record.scoring_path,
        is_stopped=record.value.is_stopped,
    )
    scale = spec.scale_settings
    if not scale.follows_load:
        return route
    held_max = scale.max_held_requests or limits.HELD_REQUESTS_DEFAULT
    growing = {"held_max": held_max, "hold_s": limits.HOLD_S, "instances_max": scale.most}
    return route.model_copy(update=growing)


def error(code: ErrorCode, message: str, target: str = "") -> HeadgateError:
    return HeadgateError(code, message, target=target)


def about(value: Deployment) -> dict[str, Any]:
    """The fields of every event about a deployment."""
    return {
        "workspace": value.workspace,
        "endpoint": value.spec.endpoint_name,
        "deployment": value.spec.name,
        "revision": value.revision,
    }
