"""Decisions about assets (models, environments, code, data): versions never change. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from headgate.registry import core
from headgate.registry.records import Moment
from headgate_contracts import assets as messages
from headgate_contracts import limits, registry
from headgate_contracts.assets import AssetKind, Data, DataSpec
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import (
    Code,
    CodeSpec,
    DeploymentSpec,
    Environment,
    EnvironmentSpec,
    Model,
    ModelSpec,
)

Asset = Model | Environment | Code | Data
AssetSpec = ModelSpec | EnvironmentSpec | CodeSpec | DataSpec
PutAsset = registry.PutModel | registry.PutEnvironment | registry.PutCode | messages.PutData
D = TypeVar("D", DeploymentSpec, BatchDeploymentSpec)
KINDS: tuple[AssetKind, ...] = get_args(AssetKind)

LATEST = "latest"
# What may change on a version: it describes, and nobody runs it.
LABELS = frozenset({"description", "tags", "properties", "stage", "is_anonymous"})

_NAME = limits.ASSET_NAME_PATTERN.strip("^$")
_VERSION = limits.ASSET_VERSION_PATTERN.strip("^$")
_REFERENCE = re.compile(
    rf"azureml:(?P<name>{_NAME})(?::(?P<version>{_VERSION})|@(?P<label>{_VERSION}))\Z"
)
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference as written: a version, or the label ``latest``."""

    kind: AssetKind
    name: str
    version: str
    field: str

    def __str__(self) -> str:
        return f"azureml:{self.name}:{self.version}"


_KIND_OF: dict[type[AssetSpec], AssetKind] = {
    ModelSpec: "models",
    EnvironmentSpec: "environments",
    CodeSpec: "codes",
    DataSpec: "data",
}


def kind_of(spec: AssetSpec) -> AssetKind:
    return _KIND_OF[type(spec)]


def number_of(version: str) -> int | None:
    """The version as a number, when it is one: an unnamed next version counts from it."""
    return int(version) if _NUMBER.match(version) else None


def put(command: PutAsset, stored: Asset | None, next_number: int, moment: Moment) -> Asset:
    """The asset as it is kept from now on; ``stored`` itself when nothing is new.

    ``stored`` is what has the wanted version, ``next_number`` the version of one without.
    """
    spec = command.spec
    core.check_size(spec)
    _check_paths(spec)
    if stored is None:
        version = spec.version or str(next_number)
        return _asset(command, spec.model_copy(update={"version": version}), moment)
    fields = _differing(stored.spec, spec)
    if not LABELS.issuperset(fields):
        raise core.error(
            ErrorCode.RESOURCE_EXISTS,
            f"version {spec.version} of {spec.name!r} exists with other content "
            f"({', '.join(fields)}), and versions never change; register it as a new version",
            "version",
        )
    is_archived = stored.is_archived if command.is_archived is None else command.is_archived
    if not fields and is_archived == stored.is_archived:
        return stored
    # The same files may lie elsewhere now; what is registered stays where deployments read it.
    kept = {field: getattr(spec, field) for field in LABELS & set(fields)}
    changes = {"spec": stored.spec.model_copy(update=kept), "is_archived": is_archived}
    return stored.model_copy(update={**changes, **moment.touched})


def archive(stored: Asset, command: messages.ArchiveAsset, moment: Moment) -> Asset:
    """The version hidden from lists, or shown again; ``stored`` itself when it is so already."""
    if stored.is_archived == command.is_archived:
        return stored
    return stored.model_copy(update={"is_archived": command.is_archived, **moment.touched})


def check_deletion(
    versions: Sequence[Asset], command: messages.DeleteAsset, users: Mapping[str, str]
) -> None:
    """Refuse to delete what has changed meanwhile or is in use.

    ``users`` are the references (``azureml:<name>:<version>``) of deployments, and whose.
    """
    what = f"{command.name[:80]!r} of the {command.kind}"
    newest = versions[0].revision if versions else None
    if command.if_revision is not None and command.if_revision != newest:
        state = f"has the revision {newest}" if versions else "does not exist (any more)"
        raise core.error(
            ErrorCode.REVISION_MISMATCH,
            f"{what} {state}, not {command.if_revision}; read it again before deleting it",
        )
    for asset in versions:
        if user := users.get(f"azureml:{asset.spec.name}:{asset.spec.version}"):
            raise core.error(
                ErrorCode.RESOURCE_CONFLICT,
                f"version {asset.spec.version} of {what} is used by the deployment {user}; "
                "delete or change that first (or archive the version to hide it from lists)",
                "version",
            )


def events_of(before: Asset | None, after: Asset | None) -> tuple[messages.AssetEvent, ...]:
    """What is told of a change of one version."""
    asset = after or before
    assert asset is not None
    about = {
        "workspace": asset.workspace,
        "kind": kind_of(asset.spec),
        "name": asset.spec.name,
        "version": asset.spec.version,
    }
    if after is None:
        return (messages.AssetDeleted(**about),)
    told: list[messages.AssetEvent] = []
    if before is None:
        told.append(messages.AssetRegistered(**about))
    if after.is_archived and not (before and before.is_archived):
        told.append(messages.AssetArchived(**about))
    if before and before.is_archived and not after.is_archived:
        told.append(messages.AssetRestored(**about))
    return tuple(told)


def _asset(command: PutAsset, spec: AssetSpec, moment: Moment) -> Asset:
    about: dict[str, Any] = {
        "workspace": command.workspace,
        "is_archived": bool(command.is_archived),
        **moment.made,
    }
    if isinstance(spec, ModelSpec):
        return Model(spec=spec, **about)
    if isinstance(spec, EnvironmentSpec):
        return Environment(spec=spec, **about)
    return Data(spec=spec, **about) if isinstance(spec, DataSpec) else Code(spec=spec, **about)


def _differing(old: AssetSpec, new: AssetSpec) -> tuple[str, ...]:
    fields = core.changed(old, new)
    if isinstance(old, CodeSpec) and isinstance(new, CodeSpec) and old.sha256 == new.sha256 != "":
        return tuple(field for field in fields if field != "path")  # the same files elsewhere
    return fields


def _check_paths(spec: AssetSpec) -> None:
    """Paths are keys of the object store: no way out of it, and nothing a file name cannot hold."""
    paths = {"path": getattr(spec, "path", "x")}
    if isinstance(spec, EnvironmentSpec) and spec.build is not None:
        paths = {"build.path": spec.build.path, "build.dockerfile_path": spec.build.dockerfile_path}
    for field, path in paths.items():
        if not path or "\0" in path or ".." in path.split("/"):
            raise core.error(
                ErrorCode.BAD_ARGUMENT, f"{field} is no path in the store: {path[:200]!r}", field
            )


# --- references --------------------------------------------------------------------------------


def references(spec: DeploymentSpec | BatchDeploymentSpec) -> tuple[Reference, ...]:
    """What a deployment refers to; refused where it is not written as a reference."""
    code = spec.code_configuration
    written: list[tuple[AssetKind, str, str | None]] = [
        ("models", "model", spec.model),
        ("environments", "environment", spec.environment),
        ("codes", "code_configuration.code", code.code if code else None),
    ]
    if isinstance(spec, DeploymentSpec) and spec.data_collector is not None:
        collections = spec.data_collector.collections.items()
        written += [("data", _data_field(name), each.data) for name, each in collections]
    return tuple(_parsed(kind, field, text) for kind, field, text in written if text is not None)


def _data_field(collection: str) -> str:
    return f"data_collector.collections.{collection}.data"


def _parsed(kind: AssetKind, field: str, text: str) -> Reference:
    match = _REFERENCE.match(text)
    if match is None:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"{field} is {text[:200]!r}; it must refer to something registered: "
            "azureml:<name>:<version> or azureml:<name>@latest",
            field,
        )
    if match["label"] not in (None, LATEST):
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"{field} uses the label @{match['label']}; the only label is @{LATEST}",
            field,
        )
    return Reference(kind, match["name"], match["version"] or LATEST, field)


def unknown(reference: Reference) -> Exception:
    """The refusal of a reference to something that is not registered."""
    return core.error(
        ErrorCode.BAD_ARGUMENT,
        f"{reference.field} refers to {reference.name!r}, version {reference.version}, which is "
        f"not among the {reference.kind} of this workspace; register it first",
        reference.field,
    )


def resolved(spec: D, found: dict[str, Asset]) -> D:
    """The deployment with concrete versions. ``found`` is by field."""
    exact = {
        field: f"azureml:{asset.spec.name}:{asset.spec.version}" for field, asset in found.items()
    }
    changes: dict[str, object] = {
        field: exact[field] for field in ("model", "environment") if field in exact
    }
    if spec.code_configuration is not None:
        code = exact["code_configuration.code"]
        changes["code_configuration"] = spec.code_configuration.model_copy(update={"code": code})
    if isinstance(spec, DeploymentSpec) and spec.data_collector is not None:
        collections = {
            name: each.model_copy(update={"data": exact.get(_data_field(name))})
            for name, each in spec.data_collector.collections.items()
        }
        collector = spec.data_collector.model_copy(update={"collections": collections})
        changes["data_collector"] = collector
    return spec.model_copy(update=changes)


def scoring_path(environment: Asset | None) -> str:
    """Where a container of this environment takes requests."""
    if isinstance(environment, Environment) and environment.spec.inference_config is not None:
        scoring = environment.spec.inference_config.scoring_route
        if scoring is not None:
            return scoring.path
    return "/score"
