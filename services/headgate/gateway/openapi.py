"""The OpenAPI 3.1 document, made from the route table.

It says what is enforced: bodies come from the tables that read them, answers from those that
write them, parameters with their limits, and for each route every status that it may answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from headgate.azure.arm_answers import ERROR
from headgate.azure.arm_fields import Json
from headgate.gateway import parameters, repeats
from headgate.gateway.authentication import IDENTITY_HEADER
from headgate.gateway.repeats import Repeats
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits

JSON_TYPE = "application/json"
_NAMES = re.compile(r"\{(\w+)(?:\.\.\.)?\}")
_BEARER: Json = {"bearer": []}
_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "the admin token, or a token of 'headgate token create' or of its issuer",
    },
    "identityHeader": {
        "type": "apiKey",
        "in": "header",
        "name": IDENTITY_HEADER,
        "description": "the same token, where clients of managed identities show it",
    },
}
_REFUSALS = {
    400: "something about the request is not acceptable; target says what",
    401: "no token, or none that counts here",
    403: "the caller's role is too low",
    404: "there is nothing, or nothing of the caller's",
    409: "what is there does not allow this now, or the first such request still runs",
    412: "the resource is not as the condition says",
    413: "the body is too large",
    414: f"the address is longer than {limits.URL_BYTES_MAX} bytes",
    415: "the body is not of the type wanted here, or compressed",
    422: "the Idempotency-Key was used for another request",
    428: "this gateway wants If-Match for changes of what exists",
    429: "too many wrong tokens came from this address",
    500: "the gateway failed; its log has the cause under the request id",
    503: "a service behind the gateway is not there or busy; Retry-After says when to come back",
    504: "a service did not answer in time; the outcome is unknown",
    507: "the disk is full",
}
_NO_BODY = (202, 204)
_BUSY = (414, 500, 503, 504)


def document(routes: Iterable[Route[Any]], version: str) -> Json:
    """Every route of the table."""
    schemas: Json = {}
    paths: Json = {}
    for route in routes:
        path = paths.setdefault(_NAMES.sub(r"{\1}", route.path), {})
        path[route.verb.lower()] = _hoisted(_operation(route), schemas)
    error = {JSON_TYPE: {"schema": _hoisted(ERROR, schemas)}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate gateway",
            "version": version,
            "description": "Azure Resource Manager's shape for endpoints, and what is ours.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": _SCHEMES,
            "headers": _HEADERS,
            "schemas": schemas,
            "responses": {
                f"Refused{status}": {
                    "description": text,
                    "headers": _headers("x-request-id", *_EXTRA_HEADERS.get(status, ())),
                    "content": error,
                }
                for status, text in _REFUSALS.items()
            },
        },
        "security": [_BEARER],
    }


_HEADERS: Json = {
    "x-request-id": {
        "description": "names this request in every log",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "Retry-After": {
        "description": "seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
    "ETag": {
        "description": "the revision, for If-Match",
        "schema": {"type": "string", "pattern": '^"[0-9]{1,15}"$'},
    },
    "Location": {
        "description": "tells whether the operation has ended",
        "schema": {"type": "string", "format": "uri"},
    },
    "Azure-AsyncOperation": {
        "description": "tells how the operation goes",
        "schema": {"type": "string", "format": "uri"},
    },
}
_OPERATION_HEADERS = ("Location", "Azure-AsyncOperation", "Retry-After")
_EXTRA_HEADERS = {
    202: _OPERATION_HEADERS,
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _hoisted(part: Any, schemas: Json) -> Any:
    """``part`` with every schema that has a title put among ``schemas`` and referred to."""
    if isinstance(part, list):
        return [_hoisted(item, schemas) for item in part]
    if not isinstance(part, dict):
        return part
    title = part.get("title")
    if not isinstance(title, str) or "type" not in part:
        return {key: _hoisted(value, schemas) for key, value in part.items()}
    if title not in schemas:
        schemas[title] = {
            key: _hoisted(value, schemas) for key, value in part.items() if key != "title"
        }
    return {"$ref": f"#/components/schemas/{title}"}


def _operation(route: Route[Any]) -> Json:
    operation: Json = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {
            **{str(status): _answer(route, status) for status in sorted(route.answers)},
            **{
                str(status): {"$ref": f"#/components/responses/Refused{status}"}
                for status in sorted(refusals(route) - route.answers.keys())
            },
        },
    }
    if route.public:
        operation["security"] = []
    elif route.guard:
        operation["security"] = [_BEARER, {"identityHeader": []}]
    if route.body is not None:
        is_binary = route.body.get("format") == "binary"
        media = "application/octet-stream" if is_binary else JSON_TYPE
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {media: {"schema": route.body}},
        }
    return operation


def _parameters(route: Route[Any]) -> list[Json]:
    queries = [*route.query, *(["api-version"] if WORKSPACE in route.path else [])]
    found = [
        {"name": name, "in": "path", "required": True, "schema": parameters.of_path(name)}
        for name in _NAMES.findall(route.path)
    ]
    found += [
        {"name": name, "in": "query", "schema": parameters.of_query(name)} for name in queries
    ]
    if route.conditional:
        found.append(_header("If-Match", parameters.IF_MATCH))
    if route.conditional and route.verb == "PUT":
        found.append(_header("If-None-Match", parameters.IF_NONE_MATCH))
    if route.repeats is not Repeats.IGNORED:
        is_required = route.repeats is Repeats.REQUIRED
        found.append(
            {**_header(repeats.KEY_HEADER, parameters.REPEAT_KEY), "required": is_required}
        )
    return found


def _header(name: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "schema": schema}


def _answer(route: Route[Any], status: int) -> Json:
    names = ["x-request-id", *_EXTRA_HEADERS.get(status, ())]
    if route.tagged and status in (200, 201):
        names.append("ETag")
    if route.conditional and status in (200, 201):
        names += _OPERATION_HEADERS
    found: Json = {"description": route.answers[status], "headers": _headers(*names)}
    if route.reply is not None and status not in _NO_BODY and route.verb != "HEAD":
        found["content"] = {route.media: {"schema": route.reply}}
    return found


def refusals(route: Route[Any]) -> set[int]:
    """Every status with which a route may refuse a request."""
    found = {*_BUSY, *route.refusals}
    if not route.public:
        found |= {400, 401, 403, 404, 429}
    if route.body is not None:
        found |= {413, 415}
    if route.verb in ("PUT", "PATCH", "DELETE", "POST"):
        found |= {409, 507}
    if route.conditional:
        found |= {412, 428}
    if route.repeats is not Repeats.IGNORED:
        found |= {409, 413, 422}
    return found


def operation_id(route: Route[Any]) -> str:
    """A name made of the verb and the path: ``putOnlineEndpointsByEndpoint``."""
    words = [route.verb.lower()]
    path = route.path.replace(WORKSPACE, "" if route.path != WORKSPACE else "workspace")
    for part in path.strip("/").split("/"):
        name = _NAMES.match(part)
        word = f"by {name[1]}" if name else part.replace(".", " ")
        words += [piece[:1].upper() + piece[1:] for piece in word.split()]
    return "".join(words)
