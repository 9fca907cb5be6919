"""What is peculiar to the YAML files of batch deployments."""

from __future__ import annotations

from headgate.azure.arm_ids import compute_reference
from headgate.azure.yaml_nodes import Mapping, Scalar
from headgate.azure.yaml_shapes import Findings, Problem

_PIPELINE_FIELDS = ("component", "job_definition")


def pipeline_problem(root: Mapping) -> Problem | None:
    """Why the file cannot be used, when it is about a pipeline component instead of a model."""
    kind = root.items.get("type")
    told = [root.items[name] for name in _PIPELINE_FIELDS if name in root.items]
    if isinstance(kind, Scalar) and kind.text.lower() == "pipeline":
        told.insert(0, kind)
    if not told:
        return None
    return Problem(
        told[0].place,
        "type",
        "batch deployments of pipeline components are not run here; deploy a model, with "
        "'type: model'",
    )


def lift_settings(root: Mapping, findings: Findings) -> None:
    """What newer files keep below ``settings`` goes where older files have it: to the top."""
    settings = root.items.get("settings")
    if settings is None:
        return
    del root.items["settings"]
    if isinstance(settings, Scalar) and settings.is_null:
        return
    if not isinstance(settings, Mapping):
        findings.refuse(settings.place, "settings", "must be a mapping of fields")
        return
    for name, value in settings.items.items():
        into = root
        if name == "instance_count":
            resources = root.items.setdefault("resources", Mapping(settings.place))
            root.key_places.setdefault("resources", settings.key_places[name])
            if not isinstance(resources, Mapping):
                continue  # told when resources are read
            into = resources
        into.items[name] = value
        into.key_places[name] = settings.key_places[name]


def name_compute(root: Mapping, findings: Findings) -> None:
    """A compute is named, not described; whatever the form, the name is what is kept."""
    node = root.items.get("compute")
    if isinstance(node, Scalar) and not node.is_null:
        try:
            root.items["compute"] = Scalar(node.place, compute_reference(node.text))
        except ValueError as error:
            findings.refuse(node.place, "compute", str(error))
