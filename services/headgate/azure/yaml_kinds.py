"""Tells of a YAML file which kind of resource it describes."""

from __future__ import annotations

from enum import StrEnum

from headgate.azure import yaml_autoscale
from headgate.azure.yaml_files import (
    BATCH_DEPLOYMENT,
    BATCH_ENDPOINT,
    DEPLOYMENT,
    ENDPOINT,
    ENVIRONMENT,
    MODEL,
    Kind,
)
from headgate.azure.yaml_nodes import Mapping, Node, Scalar


class ResourceKind(StrEnum):
    """What ``headgate apply`` can bring about, in the order in which it does."""

    ENVIRONMENT = "environment"
    MODEL = "model"
    ENDPOINT = "online-endpoint"
    DEPLOYMENT = "online-deployment"
    BATCH_ENDPOINT = "batch-endpoint"
    BATCH_DEPLOYMENT = "batch-deployment"
    AUTOSCALE = "autoscale"


_SCHEMAS: dict[ResourceKind, Kind] = {
    ResourceKind.ENVIRONMENT: ENVIRONMENT,
    ResourceKind.MODEL: MODEL,
    ResourceKind.ENDPOINT: ENDPOINT,
    ResourceKind.DEPLOYMENT: DEPLOYMENT,
    ResourceKind.BATCH_ENDPOINT: BATCH_ENDPOINT,
    ResourceKind.BATCH_DEPLOYMENT: BATCH_DEPLOYMENT,
}
# A field that only one kind has among those further down, for files that name no schema.
_TELLING: dict[str, ResourceKind] = {
    "settings": ResourceKind.BATCH_DEPLOYMENT,
    "mini_batch_size": ResourceKind.BATCH_DEPLOYMENT,
    "max_concurrency_per_instance": ResourceKind.BATCH_DEPLOYMENT,
    "output_action": ResourceKind.BATCH_DEPLOYMENT,
    "defaults": ResourceKind.BATCH_ENDPOINT,
    "endpoint_name": ResourceKind.DEPLOYMENT,
    "auth_mode": ResourceKind.ENDPOINT,
    "traffic": ResourceKind.ENDPOINT,
    "mirror_traffic": ResourceKind.ENDPOINT,
    "image": ResourceKind.ENVIRONMENT,
    "conda_file": ResourceKind.ENVIRONMENT,
    "build": ResourceKind.ENVIRONMENT,
    "path": ResourceKind.MODEL,
}


def schema_of(root: Node) -> str:
    """The last part of the schema that a file names, in lower case; empty when it names none."""
    node = root.items.get("$schema") if isinstance(root, Mapping) else None
    text = node.text if isinstance(node, Scalar) else ""
    return text.rsplit("/", 1)[-1].removesuffix(".json").removesuffix(".schema").lower()


def named_kind(root: Node) -> ResourceKind | None:
    """The kind that the file's ``$schema`` names; None when it names none that is known."""
    schema = schema_of(root)
    if yaml_autoscale.is_setting(root, schema):
        return ResourceKind.AUTOSCALE
    return next((kind for kind, known in _SCHEMAS.items() if schema in known.schemas), None)


def guessed_kind(root: Node) -> ResourceKind | None:
    """The kind whose fields the file has."""
    if named := named_kind(root):
        return named
    fields = root.items if isinstance(root, Mapping) and not schema_of(root) else {}
    return next((kind for field, kind in _TELLING.items() if field in fields), None)
