"""JSON Schemas of a model's requests and answers, for the description of the scoring API."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Optional

from headgate_worker.pyfunc import signature as signatures
from headgate_worker.pyfunc.signature import Signature, Spec

EXAMPLE_BYTES_MAX = 64 * 1024
EXAMPLE_ROWS_MAX = 3
Json = dict[str, Any]

_SCALARS: dict[str, Json] = {
    signatures.BOOLEAN: {"type": "boolean"},
    signatures.INTEGER: {"type": "integer", "format": "int32"},
    signatures.LONG: {"type": "integer", "format": "int64"},
    signatures.FLOAT: {"type": "number", "format": "float"},
    signatures.DOUBLE: {"type": "number", "format": "double"},
    signatures.STRING: {"type": "string"},
    signatures.BINARY: {"type": "string", "format": "byte"},
    signatures.DATETIME: {"type": "string", "format": "date-time"},
}
_SAMPLES = {
    signatures.BOOLEAN: True,
    signatures.INTEGER: 0,
    signatures.LONG: 0,
    signatures.FLOAT: 0.5,
    signatures.DOUBLE: 0.5,
    signatures.STRING: "text",
    signatures.BINARY: "AA==",
    signatures.DATETIME: "2026-01-31T12:00:00Z",
}
_SAID = (
    "Also accepted: the rows as lists of values in the order of the columns, and the split form "
    '{"columns": [...], "index": [...], "data": [[...]]}.'
)


def request(wanted: Optional[Signature], example: Any) -> Json:
    """Of a request. ``example`` is what the model was logged with, or None."""
    if wanted is None:
        made: Json = {"type": "object", "required": ["input_data"]}
        made["properties"] = {"input_data": {}}
        if example is not None:
            made["example"] = {"input_data": example}
        return made
    properties = {"input_data": _input(wanted)}
    sample: Json = {"input_data": example if example is not None else _sample(wanted)}
    if wanted.params:
        properties["params"] = _params(wanted)
        sample["params"] = {each.get("name"): each.get("default") for each in wanted.params}
    return {
        "type": "object",
        "required": ["input_data"],
        "properties": properties,
        "example": sample,
    }


def answer(wanted: Optional[Signature]) -> Json:
    """Of an answer: a list of predictions, or an object of tensors."""
    outputs = wanted.outputs if wanted is not None else ()
    if not outputs:
        return {}
    if outputs[0].shape is not None:
        return _tensors(outputs)
    return {"type": "array", "items": _row(outputs)}


def example(folder: str, info: Optional[Mapping[str, Any]], wanted: Optional[Signature]) -> Any:
    """The example that the model was logged with, as ``input_data``; None when there is none."""
    if not info or "sparse" in str(info.get("type")):
        return None
    path = os.path.join(folder, str(info.get("artifact_path", "")))
    try:
        if os.path.getsize(path) > EXAMPLE_BYTES_MAX:
            return None
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    if info.get("params") and isinstance(found, dict):
        found = found.get("data")
    if isinstance(found, dict) and set(found) == {"inputs"}:
        found = found["inputs"]
    if isinstance(found, dict) and set(found) == {"columns", "data"}:
        rows = found["data"][:EXAMPLE_ROWS_MAX]
        named = wanted is None or wanted.is_named
        return [dict(zip(found["columns"], row)) for row in rows] if named else rows
    if isinstance(found, dict) and set(found) == {"data"}:
        return found["data"][:EXAMPLE_ROWS_MAX]
    return found


def _input(wanted: Signature) -> Json:
    if wanted.is_tensors:
        return _tensors(wanted.inputs)
    made: Json = {"type": "array", "items": _row(wanted.inputs)}
    if wanted.is_named and not wanted.free:
        made["description"] = _SAID
    return made


def _row(specs: tuple[Spec, ...]) -> Json:
    if specs[0].name is not None:
        return {
            "type": "object",
            "required": [spec.name for spec in specs if spec.required],
            "properties": {spec.name: _type(spec.type) for spec in specs},
        }
    if len(specs) == 1:
        return _type(specs[0].type)
    return {"type": "array", "items": {}}


def _tensors(specs: tuple[Spec, ...]) -> Json:
    if specs[0].name is None:
        return _tensor(specs[0])
    return {
        "type": "object",
        "required": [spec.name for spec in specs if spec.required],
        "properties": {spec.name: _tensor(spec) for spec in specs},
    }


def _tensor(spec: Spec) -> Json:
    made = _element(str(spec.type))
    for size in reversed(spec.shape or ()):
        made = {"type": "array", "items": made}
        if size >= 0:
            made |= {"minItems": size, "maxItems": size}
    return made


def _element(dtype: str) -> Json:
    if dtype.startswith(("int", "uint")):
        return {"type": "integer"}
    if dtype.startswith("float"):
        return {"type": "number"}
    return {"type": "boolean"} if dtype.startswith("bool") else {}


def _type(kind: Any) -> Json:
    if isinstance(kind, str):
        return dict(_SCALARS.get(kind, {}))
    inner = kind.get("type")
    if inner == "array":
        return {"type": "array", "items": _type(kind.get("items") or {})}
    if inner == "map":
        return {"type": "object", "additionalProperties": _type(kind.get("values") or {})}
    if inner == "object":
        fields = kind.get("properties") or {}
        made: Json = {
            "type": "object",
            "properties": {name: _type(field) for name, field in fields.items()},
        }
        required = [name for name, field in fields.items() if field.get("required", True)]
        return {**made, "required": required} if required else made
    return dict(_SCALARS.get(str(inner), {}))


def _params(wanted: Signature) -> Json:
    properties: Json = {}
    for each in wanted.params:
        one = _type(each.get("type") or each.get("dtype") or {})
        one = {"type": "array", "items": one} if each.get("shape") else one
        properties[str(each.get("name"))] = {**one, "default": each.get("default")}
    return {"type": "object", "properties": properties}


def _sample(wanted: Signature) -> Any:
    """One row, made up from the types."""
    if wanted.is_tensors:
        made = {spec.name: _sample_tensor(spec) for spec in wanted.inputs}
        return made if wanted.is_named else made[None]
    row = {spec.name: _SAMPLES.get(str(spec.type)) for spec in wanted.inputs}
    if wanted.is_named:
        return [row]
    values = [_SAMPLES.get(str(spec.type)) for spec in wanted.inputs]
    return values if len(values) == 1 else [values]


def _sample_tensor(spec: Spec) -> Any:
    made: Any = _element(str(spec.type)).get("type")
    made = {"integer": 0, "number": 0.5, "boolean": True}.get(str(made), "text")
    count = 1
    for size in reversed(spec.shape or ()):
        size = max(size, 1)
        count *= size
        made = [made] * size
    return made if count <= EXAMPLE_ROWS_MAX * 1_000 else []
