"""What the parameters of addresses and headers may be, by name.

The OpenAPI document shows these schemas, and :func:`check` enforces their patterns and lengths
for every route; numbers and orders are read with the same limits where they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from headgate.azure.arm_fields import Json
from headgate.gateway import core, repeats
from headgate.gateway.access import nothing_here
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import CONTROL_AUDIENCE

_PLACE: Json = {"type": "string", "pattern": r"^[A-Za-z0-9._()-]{1,90}$"}
# It is the name of a storage account too, and so the first part of a host name.
_WORKSPACE: Json = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,89}$"}
_SCOPES = ("subscription", "resourceGroup", "workspace")
_NAME: Json = {
    "type": "string",
    "pattern": limits.NAME_PATTERN,
    "minLength": limits.NAME_CHARS_MIN,
    "maxLength": limits.NAME_CHARS_MAX,
    "description": limits.NAME_RULE,
}
_SEGMENT: Json = {"type": "string", "minLength": 1}
_DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TEXT: Json = {"type": "string"}
_VERSION: Json = {"type": "string", "pattern": limits.ASSET_VERSION_PATTERN}
_ORDER: Json = {"type": "string", "enum": list(core.ORDERS)}


def _number(least: int, most: int, default: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


_SIZE = _number(1, limits.PAGE_SIZE_MAX, limits.PAGE_SIZE_DEFAULT)

PATH: Mapping[str, Json] = {
    "subscription": _PLACE,
    "resourceGroup": _PLACE,
    "workspace": _WORKSPACE,
    "endpoint": _NAME,
    "deployment": _NAME,
    "identity": _NAME,
    "name": {"type": "string", "pattern": limits.ASSET_NAME_PATTERN},
    "version": _VERSION,
    "label": _VERSION,
    "digest": _DIGEST,
    "path": {**_SEGMENT, "description": "one or more segments"},
    "token": _SEGMENT,
    "job": _SEGMENT,
    "operation": _SEGMENT,
    "registry": _SEGMENT,
    "rest": _SEGMENT,
    "location": _SEGMENT,
}

QUERY: Mapping[str, Json] = {
    "$top": _SIZE,
    "count": _SIZE,
    "$skip": _number(0, limits.SKIP_MAX, 0),
    "orderBy": _ORDER,
    "$orderBy": _ORDER,
    "name": _TEXT,
    "computeType": _TEXT,
    "tags": {**_TEXT, "description": "a,b=c: with the key a, and the key b with the value c"},
    "properties": {**_TEXT, "description": "as tags"},
    "cursor": {"type": "string", "maxLength": 1_024},
    "first": _number(0, limits.INT32_MAX, 0),
    "number": {**_number(0, limits.INT32_MAX, 0), "description": "0: all"},
    "groups": _number(1, limits.BATCH_GROUPS_MAX, limits.BATCH_GROUPS_DEFAULT),
    "wait": _number(0, limits.LOG_WAIT_S_MAX, 0),
    "since": {**_TEXT, "description": "an age such as 10m, or a time of RFC 3339"},
    "filter": {**_TEXT, "description": "a kind such as endpoint, or a subject"},
    "follow": {"type": "boolean", "default": True},
    "workspace": _WORKSPACE,
    "hash": _DIGEST,
    "hashVersion": _TEXT,
    "resource": {"type": "string", "default": CONTROL_AUDIENCE},
    "lifetime_s": {
        "type": "number",
        "minimum": limits.SHORT_TOKEN_LIFETIME_S_MIN,
        "maximum": limits.SHORT_TOKEN_LIFETIME_S_MAX,
        "default": limits.SHORT_TOKEN_LIFETIME_S_DEFAULT,
    },
    "listViewType": {"type": "string", "enum": ["ActiveOnly", "ArchivedOnly", "All"]},
    "version": _VERSION,
    "$tags": {**_TEXT, "description": "as tags"},
    "names": {**_TEXT, "description": "a,b: those alone"},
    "searchText": {**_TEXT, "description": "a part of the name"},
    "isDefault": {"type": "boolean"},
    "orderByAsc": {"type": "boolean"},
    "kind": _TEXT,
    "skipValidation": {"type": "boolean"},
    "underlyingResourceAction": {"type": "string", "enum": ["Delete", "Detach"]},
    "api-version": {**_TEXT, "description": "any; there is one version"},
}

IF_MATCH: Json = {
    "type": "string",
    "pattern": r'^(\*|(W/)?"[0-9]{1,15}")$',
    "description": "the ETag that the resource was read with, or * for any",
}
IF_NONE_MATCH: Json = {
    "type": "string",
    "const": "*",
    "description": "create it, and touch nothing that is there",
}
REPEAT_KEY: Json = {
    "type": "string",
    "pattern": f"^{repeats.KEY_PATTERN}$",
    "description": "new for every new request; the same when a request is sent again",
}


def of_path(name: str) -> Json:
    """What the name in a path may stand for."""
    return PATH.get(name, _SEGMENT)


def of_query(name: str) -> Json:
    """What the query parameter may be."""
    return QUERY.get(name, _TEXT)


def check(params: Mapping[str, str], query: Mapping[str, str], known: Iterable[str]) -> None:
    """Refuse what cannot be the value of a path's name, or of one of the ``known`` queries.

    A scope (subscription, resource group, workspace) that cannot be one is simply not there.
    """
    for name, text in params.items():
        schema = of_path(name)
        if not _fits(text, schema):
            if name in _SCOPES:
                raise nothing_here()
            code = ErrorCode.INVALID_NAME if schema is _NAME else ErrorCode.BAD_ARGUMENT
            said = f"{_quoted(text)} is no valid {name}; {_rule(schema)}"
            raise HeadgateError(code, said, target=name)
    for name in known:
        schema = of_query(name)
        if name in query and not _fits(query[name], schema):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{_quoted(query[name])} is no valid {name}; {_rule(schema)}",
                target=name,
            )


def _fits(text: str, schema: Json) -> bool:
    if schema["type"] == "boolean":
        return text.lower() in ("true", "false")
    if schema["type"] != "string":
        return True
    if "enum" in schema:
        return text.lower() in (word.lower() for word in schema["enum"])
    pattern = _PATTERNS.get(schema.get("pattern", ""))
    return schema.get("minLength", 0) <= len(text) <= schema.get(
        "maxLength", limits.URL_BYTES_MAX
    ) and (pattern is None or pattern.match(text) is not None)


def _rule(schema: Json) -> str:
    if schema["type"] == "boolean":
        return "it is true or false"
    if "enum" in schema:
        return f"it is one of {', '.join(schema['enum'])}"
    return str(schema.get("description") or f"it must match {schema.get('pattern')}")


def _quoted(text: str) -> str:
    return repr(text[:80])


_PATTERNS = {
    schema["pattern"]: re.compile(schema["pattern"].removesuffix("$") + r"\Z", re.ASCII)
    for schema in (*PATH.values(), *QUERY.values())
    if "pattern" in schema
}
