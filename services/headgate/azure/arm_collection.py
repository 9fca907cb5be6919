"""Data collection as Azure Resource Manager writes it in a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.azure.arm_fields import Each, Field, Form, Json, Shape, choice, pointer, reference_to
from headgate.azure.arm_ids import Context

_AT = "/properties/dataCollector/collections"
_MODES = ("Disabled", "Enabled")


def _load_mode(value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else ""
    if word not in ("enabled", "disabled"):
        raise ValueError(f"{str(value)[:40]!r} is not one of Enabled, Disabled")
    return word == "enabled"


_RATES = ("year", "month", "day", "hour", "minute")
DATA_COLLECTOR = Shape(
    Field(
        "collections",
        "collections",
        Each(
            Shape(
                Field(
                    "dataCollectionMode",
                    "enabled",
                    Form(_MODES.__getitem__, _load_mode, {"type": "string", "enum": [*_MODES]}),
                ),
                Field("samplingRate", "sampling_rate"),
                Field("dataId", "data", reference_to("data")),
                Field("clientId", "client_id"),
            )
        ),
    ),
    Field("rollingRate", "rolling_rate", choice({rate: rate.title() for rate in _RATES})),
    Field(
        "requestLogging",
        "request_logging",
        Shape(Field("captureHeaders", "capture_headers")),
    ),
)


def references(body: Any) -> list[str]:
    """Where the references to data assets are in the body of a deployment."""
    found = body
    for step in _AT.split("/")[1:]:
        found = found.get(step) if isinstance(found, Mapping) else None
    return [f"{pointer(_AT, name)}/dataId" for name in found] if isinstance(found, Mapping) else []


def name_data(properties: Json, context: Context) -> None:
    """Write the references to data assets as full resource ids."""
    for collection in (properties.get("dataCollector") or {}).get("collections", {}).values():
        if "dataId" in collection:
            collection["dataId"] = context.full_reference("data", collection["dataId"])
