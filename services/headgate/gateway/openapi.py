"""The OpenAPI 3.1 document, made from the route table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from headgate.azure.arm_fields import Json
from headgate.gateway.routes import WORKSPACE, Route

_NAMES = re.compile(r"\{(\w+)(?:\.\.\.)?\}")
_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "target": {"type": "string", "description": "JSON pointer or name of the field"},
                "details": {"type": "array", "items": {"$ref": "#/components/schemas/Detail"}},
                "additionalInfo": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}
_DETAIL: Json = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("code", "message", "target")},
}


def document(routes: Iterable[Route[Any]], version: str) -> Json:
    """Every route of the table."""
    paths: Json = {}
    for route in routes:
        path = paths.setdefault(_NAMES.sub(r"{\1}", route.path), {})
        path[route.verb.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate gateway",
            "version": version,
            "description": "Azure Resource Manager's shape for online endpoints, and what is ours.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"adminToken": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, "Detail": _DETAIL},
        },
        "security": [{"adminToken": []}],
    }


def _operation(route: Route[Any]) -> Json:
    queries = [*route.query, *(["api-version"] if route.path.startswith(WORKSPACE) else [])]
    operation: Json = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _NAMES.findall(route.path)
        ]
        + [{"name": name, "in": "query", "schema": {"type": "string"}} for name in queries],
        "responses": {
            **{str(status): {"description": text} for status, text in route.answers.items()},
            "default": {
                "description": "refused",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.public:
        operation["security"] = []
    if route.body is not None:
        is_binary = route.body.get("format") == "binary"
        media = "application/octet-stream" if is_binary else "application/json"
        operation["requestBody"] = {"content": {media: {"schema": route.body}}}
    return operation


def operation_id(route: Route[Any]) -> str:
    """A name made of the verb and the path: ``putOnlineEndpointsByEndpoint``."""
    words = [route.verb.lower()]
    path = route.path.replace(WORKSPACE, "" if route.path != WORKSPACE else "workspace")
    for part in path.strip("/").split("/"):
        name = _NAMES.match(part)
        word = f"by {name[1]}" if name else part.replace(".", " ")
        words += [piece[:1].upper() + piece[1:] for piece in word.split()]
    return "".join(words)
