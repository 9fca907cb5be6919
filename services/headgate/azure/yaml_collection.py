"""What is peculiar to ``data_collector`` in the YAML files of deployments.

A file says how much is sampled once for all collections, and describes the data asset of a
collection where a specification refers to it.
"""

from __future__ import annotations

from pydantic import Field

from headgate.azure.arm_ids import reference
from headgate.azure.yaml_nodes import Mapping, Scalar
from headgate.azure.yaml_shapes import Findings, shaped
from headgate_contracts import collection, limits
from headgate_contracts.assets import DataSpec
from headgate_contracts.envelope import Value
from headgate_contracts.resources import AssetName, AssetVersion, DeploymentSpec
from headgate_contracts.storage import DEFAULT_DATASTORE

_FIELD = "data_collector"


class DataFile(Value):
    """The data asset of a collection, as a file says it."""

    name: AssetName | None = None
    version: AssetVersion = ""
    path: str = Field("", max_length=limits.DATA_PATH_CHARS_MAX)


def lift(root: Mapping, findings: Findings) -> dict[str, DataFile]:
    """Takes out what no specification has: the common sampling rate, and inline data assets.

    The common rate goes to every collection, as Azure's client does it. What is returned is by the
    name of the collection.
    """
    node = root.items.get(_FIELD)
    if not isinstance(node, Mapping):
        return {}
    rate = node.items.pop("sampling_rate", None)
    collections = node.items.get("collections")
    if not isinstance(collections, Mapping):
        return {}
    inline: dict[str, DataFile] = {}
    for name, each in collections.items.items():
        if not isinstance(each, Mapping):
            continue
        path = f"{_FIELD}.collections.{name}"
        if rate is not None:
            each.items["sampling_rate"] = rate
            each.key_places["sampling_rate"] = node.key_places["sampling_rate"]
        data = each.items.get("data")
        if isinstance(data, Mapping):
            del each.items["data"]
            if (fields := shaped(data, DataFile, f"{path}.data", findings)) is not None:
                inline[name] = fields
        elif isinstance(data, Scalar) and not data.is_null:
            try:
                each.items["data"] = Scalar(data.place, reference("data", data.text))
            except ValueError as error:
                findings.refuse(data.place, f"{path}.data", str(error))
    return inline


def with_data(
    spec: DeploymentSpec, inline: dict[str, DataFile]
) -> tuple[DeploymentSpec, tuple[DataSpec, ...]]:
    """The deployment with a data asset for every collection, and those that are to be registered.

    What a file leaves open is filled in as Azure's clients do.
    """
    if spec.data_collector is None:
        return spec, ()
    collections = dict(spec.data_collector.collections)
    assets: list[DataSpec] = []
    for name, each in collections.items():
        if each.data is not None:
            continue
        wanted = inline.get(name, DataFile())
        names = spec.endpoint_name, spec.name, name
        place = f"azureml://datastores/{DEFAULT_DATASTORE}/paths/{collection.default_path(*names)}"
        asset = DataSpec(
            name=wanted.name or collection.asset_name(*names),
            version=wanted.version or "1",
            path=wanted.path or place,
        )
        assets.append(asset)
        exact = f"azureml:{asset.name}:{asset.version}"
        collections[name] = each.model_copy(update={"data": exact})
    collector = spec.data_collector.model_copy(update={"collections": collections})
    return spec.model_copy(update={_FIELD: collector}), tuple(assets)
