"""Decisions about datastores and computes. Pure functions.

Both are nothing but their specification, so one decision serves: what is stored from now on, and
what is told of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from headgate.registry import core
from headgate.registry.records import Moment
from headgate_contracts import limits, storage
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.storage import (
    BUILT_IN_DATASTORES,
    DEFAULT_DATASTORE,
    Compute,
    Datastore,
    DatastoreSpec,
    ThingEvent,
)

V = TypeVar("V", Datastore, Compute)
Put = storage.PutDatastore | storage.PutCompute
Delete = storage.DeleteDatastore | storage.DeleteCompute


@dataclass(frozen=True, slots=True)
class Change(Generic[V]):
    """What is stored from now on, and what is told. Without an event nothing has changed."""

    value: V
    event: ThingEvent | None = None
    created: bool = False


def built_in(workspace: str) -> dict[str, Datastore]:
    """The datastores that every workspace has. The gateway knows where its own blobs lie."""
    return {
        name: Datastore(
            workspace=workspace,
            spec=DatastoreSpec(
                name=name, account_name=workspace, container_name=name, description=text
            ),
            is_default=name == DEFAULT_DATASTORE,
            is_built_in=True,
        )
        for name, text in BUILT_IN_DATASTORES.items()
    }


def put_datastore(
    command: storage.PutDatastore, stored: Datastore | None, count: int, moment: Moment
) -> Change[Datastore]:
    """The datastore as it is from now on. ``count`` is how many the workspace has."""
    spec = command.spec
    _refuse_built_in(spec.name)
    core.check_workspace(command.workspace)
    core.check_size(spec)
    _check_put(f"the datastore {spec.name!r}", command, stored)
    _check_kind(spec)
    _check_secret(command, stored)
    if stored is None:
        _check_count("datastores", count, limits.DATASTORES_PER_WORKSPACE_MAX)
        value = Datastore(workspace=command.workspace, spec=spec, **moment.made)
        return Change(value, _told(storage.DatastoreCreated, value), created=True)
    if stored.spec == spec and not command.secret:
        return Change(stored)
    value = stored.model_copy(update={"spec": spec, **moment.touched})
    return Change(value, _told(storage.DatastoreUpdated, value))


_KINDS_OF_CREDENTIALS = {
    "azure_blob": ("none", "account_key", "sas", "service_principal"),
    "s3": ("none", "access_key"),
    "gcs": ("none", "service_account"),
    "http": ("none",),
}
_NEEDED = {"azure_blob": ("account_name", "endpoint")}
_ABSENT = {
    "s3": ("account_name",),
    "gcs": ("account_name", "region"),
    "http": ("account_name", "endpoint", "region"),
}
_OF_SERVICE_ACCOUNTS = ("client_email", "private_key", "private_key_id")


def _check_kind(spec: DatastoreSpec) -> None:
    """What one type of datastore has and the others have not."""
    for field in _NEEDED.get(spec.type, ()):
        if not getattr(spec, field):
            raise core.error(
                ErrorCode.BAD_ARGUMENT, f"a datastore of the type {spec.type} needs {field}", field
            )
    for field in _ABSENT.get(spec.type, ()):
        if getattr(spec, field):
            raise core.error(
                ErrorCode.BAD_ARGUMENT, f"a datastore of the type {spec.type} has no {field}", field
            )
    allowed = _KINDS_OF_CREDENTIALS[spec.type]
    if spec.credentials.type not in allowed:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"{spec.credentials.type} is no kind of credentials of a datastore of the type "
            f"{spec.type}; those are {', '.join(allowed)}",
            "credentials.type",
        )
    if spec.credentials.type == "access_key" and not spec.credentials.access_key_id:
        raise core.error(
            ErrorCode.BAD_ARGUMENT, "an access key needs its access_key_id", "credentials"
        )


def _check_secret(command: storage.PutDatastore, stored: Datastore | None) -> None:
    wanted = command.spec.credentials
    if wanted.type == "none":
        if command.secret:
            raise core.error(
                ErrorCode.BAD_ARGUMENT, "a secret was given without its kind", "credentials.type"
            )
        return
    if wanted.type == "service_principal" and not (wanted.tenant_id and wanted.client_id):
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            "a service principal needs its tenant_id and client_id",
            "credentials",
        )
    if wanted.type == "service_account" and command.secret:
        _check_service_account(command.secret)
    # A stored secret must not be turned against another account than the one it was given for.
    is_kept = stored is not None and _opened_by(stored.spec) == _opened_by(command.spec)
    if not command.secret and not is_kept:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"credentials of the kind {wanted.type} need their secret: at creation, and again "
            "when the account, container, address or credentials change",
            "credentials",
        )


def _check_service_account(secret: str) -> None:
    try:
        key = json.loads(secret)
    except ValueError:
        key = None
    if not isinstance(key, dict) or not all(
        isinstance(key.get(name), str) and key[name] for name in _OF_SERVICE_ACCOUNTS
    ):
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            "the key of a service account is the JSON that Google gives as a file, with "
            f"{', '.join(_OF_SERVICE_ACCOUNTS)}",
            "credentials",
        )


def _opened_by(spec: DatastoreSpec) -> tuple[object, ...]:
    """Where a secret is sent, and what kind of secret it is."""
    return (
        spec.type,
        spec.protocol,
        spec.endpoint,
        spec.account_name,
        spec.container_name,
        spec.region,
        spec.credentials,
    )


def put_compute(
    command: storage.PutCompute,
    stored: Compute | None,
    count: int,
    sizes: InstanceTypes,
    moment: Moment,
) -> Change[Compute]:
    """The compute as it is from now on. ``count`` is how many the workspace has."""
    spec = command.spec
    core.check_workspace(command.workspace)
    core.check_size(spec)
    if spec.min_instances > spec.max_instances:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"min_instances is {spec.min_instances}, more than max_instances, "
            f"which is {spec.max_instances}",
            "min_instances",
        )
    _check_put(f"the compute {spec.name!r}", command, stored)
    if stored is None:
        _check_count("computes", count, limits.COMPUTES_PER_WORKSPACE_MAX)
        sizes.find(spec.size, "size")
        value = Compute(workspace=command.workspace, spec=spec, **moment.made)
        return Change(value, _told(storage.ComputeCreated, value), created=True)
    if stored.spec.size != spec.size:
        raise core.fixed("size", stored.spec.size, spec.size)
    if stored.spec == spec:
        return Change(stored)
    value = stored.model_copy(update={"spec": spec, **moment.touched})
    return Change(value, _told(storage.ComputeUpdated, value))


def delete_datastore(
    command: storage.DeleteDatastore, stored: Datastore | None
) -> ThingEvent | None:
    """What is told of the deletion; None when there is nothing to delete."""
    _refuse_built_in(command.name)
    _check_delete(f"the datastore {command.name[:80]!r}", command, stored)
    return None if stored is None else _told(storage.DatastoreDeleted, stored)


def delete_compute(
    command: storage.DeleteCompute, stored: Compute | None, user: str
) -> ThingEvent | None:
    """What is told of the deletion. ``user`` is a batch deployment that runs on the compute."""
    what = f"the compute {command.name[:80]!r}"
    _check_delete(what, command, stored)
    if stored is not None and user:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"{what} is used by the batch deployment {user}; delete or change that first",
            "name",
        )
    return None if stored is None else _told(storage.ComputeDeleted, stored)


def absent(kind: str, name: str) -> HeadgateError:
    return core.error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"there is no {kind} {name[:80]!r} in this workspace",
        name[:80],
    )


def _refuse_built_in(name: str) -> None:
    if name in BUILT_IN_DATASTORES:
        raise core.error(
            ErrorCode.RESOURCE_CONFLICT,
            f"the datastore {name!r} is a part of the workspace: it cannot be changed or deleted",
            "name",
        )


def _check_put(what: str, command: Put, stored: Datastore | Compute | None) -> None:
    if stored is None:
        core.check_absent(what, command)
    else:
        core.check_put(what, command, stored.revision)


def _check_delete(what: str, command: Delete, stored: Datastore | Compute | None) -> None:
    if stored is None:
        core.check_absent(what, command)
    else:
        core.check_revision(what, command, stored.revision)


def _check_count(what: str, count: int, most: int) -> None:
    if count >= most:
        raise core.error(
            ErrorCode.QUOTA_EXCEEDED, f"the workspace has {count} {what} already, which is the most"
        )


def _told(event: type[ThingEvent], value: Datastore | Compute) -> ThingEvent:
    return event(workspace=value.workspace, name=value.spec.name, revision=value.revision)
