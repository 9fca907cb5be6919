"""JSON Schemas of ARM bodies, from the translation tables and the contracts' own limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from headgate.azure import arm, arm_batch, arm_data, arm_storage
from headgate.azure.arm_fields import Each, Json, Several, Shape
from headgate_contracts import assets, batch, resources, storage


def describe(shape: Shape, model: type[BaseModel]) -> Json:
    """The schema of the body that ``shape`` reads into ``model``; a null counts as absent."""
    return _nullable(plain_body(shape, model))


def plain_body(shape: Shape, model: type[BaseModel]) -> Json:
    """The same as it is written: what is absent stays absent."""
    schema = model.model_json_schema()
    return _object(shape, schema, schema.get("$defs", {}))


def only(schema: Json, fields: Iterable[str]) -> Json:
    """The schema of a patch: some of a body's fields alone, none of them needed."""
    names = set(fields)
    found = _optional(schema)
    return {
        **found,
        "properties": {name: found["properties"][name] for name in sorted(names)},
    }


def _optional(schema: Json) -> Json:
    if "properties" not in schema:
        return schema
    inner = {name: _optional(each) for name, each in schema["properties"].items()}
    kept = {key: value for key, value in schema.items() if key != "required"}
    return {**kept, "properties": inner}


def _nullable(body: Json) -> Json:
    """Every field that is not needed may be null, at every level of a shape."""
    properties: Json = {}
    for name, schema in body["properties"].items():
        found = _nullable(schema) if "properties" in schema else schema
        is_needed = name in body.get("required", ()) or found == {"readOnly": True}
        properties[name] = found if is_needed else _or_null(found)
    return {**body, "properties": properties}


def _or_null(schema: Json) -> Json:
    if isinstance(schema.get("type"), str) and "const" not in schema:
        choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return {**schema, "type": [schema["type"], "null"], **choices}
    return {"anyOf": [schema, {"type": "null"}]}


def _object(shape: Shape, schema: Json, defs: Json) -> Json:
    properties: Json = {name: {"readOnly": True} for name in sorted(shape.ignored)}
    required = []
    for row in shape.fields.values():
        if isinstance(row.form, Each):
            values = _resolved(schema["properties"][row.name], defs)
            properties[row.wire] = _each(row.form, values, defs)
            is_required = False
        elif isinstance(row.form, Several):
            values = _resolved(schema["properties"][row.name], defs)
            items = _nullable(_object(row.form.inner, values["items"], defs))
            properties[row.wire] = {**values, "items": items}
            is_required = False
        elif isinstance(row.form, Shape):
            inner = _resolved(schema["properties"][row.name], defs) if row.name else schema
            properties[row.wire] = _object(row.form, inner, defs)
            is_required = bool(not row.name and properties[row.wire].get("required"))
        else:
            contract = schema["properties"].get(row.name, {})
            properties[row.wire] = row.form.schema or _resolved(contract, defs)
            is_required = False
        if is_required or (row.name in schema.get("required", ()) and row.name):
            required.append(row.wire)
    body: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**body, "required": required} if required else body


def _each(form: Each, schema: Json, defs: Json) -> Json:
    """An object whose keys users choose, within the pattern that the contract gives."""
    values = {
        pattern: _nullable(_object(form.inner, inner, defs))
        for pattern, inner in schema["patternProperties"].items()
    }
    return {**schema, "patternProperties": values, "additionalProperties": False}


def _resolved(schema: Any, defs: Json) -> Any:
    """A schema that stands by itself: references are put in place, "or null" is dropped."""
    if isinstance(schema, list):
        return [_resolved(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    choices = [item for item in schema.get("anyOf", ()) if item != {"type": "null"}]
    if len(choices) == 1:
        return _resolved(choices[0], defs)
    return {key: _resolved(value, defs) for key, value in schema.items() if key != "title"}


ENDPOINT = describe(arm.ENDPOINT, resources.EndpointSpec)
DEPLOYMENT = describe(arm.DEPLOYMENT, resources.DeploymentSpec)
BATCH_ENDPOINT = describe(arm_batch.ENDPOINT, batch.BatchEndpointSpec)
BATCH_DEPLOYMENT = describe(arm_batch.DEPLOYMENT, batch.BatchDeploymentSpec)
ASSETS = {
    "models": describe(arm.MODEL, resources.ModelSpec),
    "environments": describe(arm.ENVIRONMENT, resources.EnvironmentSpec),
    "codes": describe(arm.CODE, resources.CodeSpec),
    "data": describe(arm_data.DATA, assets.DataSpec),
}
CONTAINER = describe(arm_data.CONTAINER, arm_data.ContainerWish)
DATASTORE = describe(arm_storage.DATASTORE, storage.DatastoreSpec)
COMPUTE = describe(arm_storage.COMPUTE, storage.ComputeSpec)
KEY_CHOICE = describe(arm.REGENERATE_KEY, arm.KeyChoice)
PENDING_UPLOAD = describe(arm.PENDING_UPLOAD, arm.PendingUpload)
