"""Data assets as Azure Resource Manager writes them, and what all assets' bodies say besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.azure.arm import ENVELOPE_READ_ONLY, asset_shape, dumped, loaded
from headgate.azure.arm_fields import Field, Form, Json, Shape
from headgate_contracts.assets import DataSpec
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError

_TYPES = ("uri_file", "uri_folder")


def _load_type(value: Any) -> str:
    word = value.lower() if isinstance(value, str) else ""
    if word == "mltable":
        raise ValueError(
            "tables (mltable) are not supported here; register the folder as uri_folder and read "
            "the table in your code"
        )
    if word not in _TYPES:
        raise ValueError(f"{str(value)[:40]!r} is not one of {', '.join(_TYPES)}")
    return word


DATA = asset_shape(
    Field("dataUri", "path"),
    Field("dataType", "type", Form(str, _load_type, {"type": "string", "enum": list(_TYPES)})),
    ignored=("autoDeleteSetting", "referencedUris", "stage"),
)


def data_body(spec: DataSpec) -> Json:
    return dumped(DATA, spec, full=False)


def data_spec(name: str, version: str, body: Any) -> DataSpec:
    """The data version that a body or resource describes."""
    return loaded(DataSpec, DATA, body, {"name": name, "version": version})


# --- archived or not ---------------------------------------------------------------------------


class ContainerWish(Value):
    """What may be asked of all versions together."""

    is_archived: bool


CONTAINER = Shape(
    Field(
        "properties",
        "",
        Shape(
            Field("isArchived", "is_archived"),
            ignored=(
                "description",
                "tags",
                "properties",
                "dataType",
                "latestVersion",
                "nextVersion",
                "provisioningState",
            ),
        ),
    ),
    ignored=ENVELOPE_READ_ONLY,
)


def is_archived(body: Any) -> bool | None:
    """Whether a version's body wants it hidden from lists; None when it does not say."""
    properties = body.get("properties") if isinstance(body, Mapping) else None
    wanted = properties.get("isArchived") if isinstance(properties, Mapping) else None
    if wanted is not None and not isinstance(wanted, bool):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "/properties/isArchived: true or false is expected",
            target="/properties/isArchived",
        )
    return wanted


def container_wish(body: Any) -> bool:
    """Whether a container's body wants all its versions hidden from lists."""
    return loaded(ContainerWish, CONTAINER, body, {}).is_archived
