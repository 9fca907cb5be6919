"""Finds the YAML files of ``headgate apply``, and reads all of them before any is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.azure import yaml_autoscale
from headgate.azure.yaml_files import YamlFile
from headgate.azure.yaml_kinds import ResourceKind, guessed_kind, named_kind, schema_of
from headgate.azure.yaml_values import LocalDeployment, LocalEnvironment, LocalModel
from headgate.cli.errors import UsageError, warn
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

FILES_MAX = 1_000
_TOLD_MAX = 10
Local = (
    EndpointSpec
    | LocalDeployment[DeploymentSpec]
    | BatchEndpointSpec
    | LocalDeployment[BatchDeploymentSpec]
    | LocalModel
    | LocalEnvironment
    | AutoscaleSpec
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One resource that a file asks for; ``mentions`` are the fields that the file has."""

    kind: ResourceKind
    name: str
    file: Path
    local: Local
    mentions: frozenset[str]


def read_all(path: Path, *, allow_outside: bool) -> list[Wanted]:
    """Everything that the file, or the files below the folder, ask for.

    Raises YamlFileError, or UsageError when there is nothing or two files ask for the same.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    found: list[Wanted] = []
    skipped: list[Path] = []
    for file in _files(path):
        document = YamlFile.open(file, allow_outside=allow_outside)
        kind = named_kind(document.root) if path.is_dir() else guessed_kind(document.root)
        if kind is None and (schema := schema_of(document.root)):
            raise UsageError(f"{file}: 'headgate apply' knows nothing of the schema {schema!r}")
        if kind is None:
            skipped.append(file)
            continue
        found.append(_wanted(kind, file, document))
    if not found:
        hint = "; a file says by its $schema what it holds" if skipped else ""
        raise UsageError(f"{path} holds no YAML file of a resource{hint}")
    for file in skipped[:_TOLD_MAX]:
        warn(f"{file} names no $schema and is left out")
    _refuse_twice(found)
    return sorted(found, key=lambda each: (tuple(ResourceKind).index(each.kind), each.name))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in (".yml", ".yaml")
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if len(files) > FILES_MAX:
        raise UsageError(f"{path} holds {len(files):,} YAML files; at most {FILES_MAX:,} are read")
    yield from files


def _wanted(kind: ResourceKind, file: Path, document: YamlFile) -> Wanted:
    mentions = frozenset(document.root.items)
    local: Local
    match kind:
        case ResourceKind.ENDPOINT:
            local = document.endpoint()
            name = local.name
        case ResourceKind.DEPLOYMENT:
            local = document.deployment()
            name = f"{local.spec.endpoint_name}/{local.spec.name}"
        case ResourceKind.BATCH_ENDPOINT:
            local = document.batch_endpoint()
            name = local.name
        case ResourceKind.BATCH_DEPLOYMENT:
            local = document.batch_deployment()
            name = f"{local.spec.endpoint_name}/{local.spec.name}"
        case ResourceKind.MODEL:
            local = document.model()
            name = local.fields.name or ""
        case ResourceKind.ENVIRONMENT:
            local = document.environment()
            name = local.fields.name or ""
        case ResourceKind.AUTOSCALE:
            local = yaml_autoscale.setting(file)
            name = local.name
    for warning in document.warnings:
        warn(warning)
    return Wanted(kind, name, file, local, mentions)


def _refuse_twice(found: list[Wanted]) -> None:
    seen: dict[tuple[ResourceKind, str, str], Path] = {}
    for each in found:
        version = getattr(getattr(each.local, "fields", None), "version", "")
        key = (each.kind, each.name, version)
        if key in seen:
            raise UsageError(
                f"{each.file} and {seen[key]} both ask for the {each.kind} {each.name!r}"
            )
        seen[key] = each.file
