"""The description of the scoring API: the script's own files, else made from its decorators."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Optional

from headgate_worker import output
from headgate_worker.script import Script
from headgate_worker.settings import Settings

ALIASES = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
FILES = {
    "2": ("swagger.json", "swagger2.json"),
    "3": ("swagger3.json",),
    "3.1": ("swagger3.1.json",),
}
ALL_VERSIONS = ("2.0", "3.0", "3.1")

Json = dict[str, Any]


class SwaggerError(Exception):
    """There is no description in this version; the text says in which there is."""


class Swagger:
    """Descriptions by version, made once."""

    def __init__(self, script: Script, settings: Settings) -> None:
        self._documents: dict[str, Json] = {}
        for version in FILES:
            found = _from_files(settings.app_root, version) or _generated(script, settings, version)
            if found is not None:
                self._documents[version] = found

    def document(self, version: str) -> Json:
        """Raises SwaggerError."""
        supported = ", ".join(sorted(self._documents))
        if version not in ALIASES:
            raise SwaggerError(
                f"Swagger version [{version}] is not valid. Supported versions: [{supported}]."
            )
        found = self._documents.get(ALIASES[version])
        if found is None:
            raise SwaggerError(
                f"Swagger version [{version}] is not supported for the scoring script. "
                f"Supported swagger versions: [{supported}]."
            )
        return found


def _from_files(root: str, version: str) -> Optional[Json]:
    for name in FILES[version]:
        try:
            with open(os.path.join(root, name), encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            output.log("WARNING", f"{name} is ignored, as it cannot be read: {error}")
            continue
        if isinstance(found, dict) and found:
            return found
    return None


def _generated(script: Script, settings: Settings, version: str) -> Optional[Json]:
    given: Json = {"type": "object", "example": {}}
    returned = given
    schemas = sys.modules.get("inference_schema.schema_util")
    if script.describe is not None:
        given, returned = script.describe()
    elif schemas is not None:
        supported = schemas.get_supported_versions(script.run)
        if not any(ALIASES.get(name) == version for name in supported):
            return None
        if schemas.is_schema_decorated(script.run):
            given = schemas.get_input_schema(script.run)
            returned = schemas.get_output_schema(script.run)
    build = _version_2 if version == "2" else _version_3
    found = build(settings, given, returned)
    if version == "3.1":
        found["openapi"] = "3.1.0"
    return found


_BEARER = {
    "Bearer": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "description": "For example: Bearer abc123",
    }
}
_ERROR = {"type": "object", "properties": {"message": {"type": "string"}}}
_HEALTH_SAID = (
    "If service is up and running, this response will be returned with the content 'Healthy'"
)
_SCORE_SAID = (
    "The service processed the input correctly and provided a result prediction, if applicable."
)
_FAILED_SAID = "The service failed to execute due to an error."


def _operations(settings: Settings, answers: dict[str, Json]) -> dict[str, Json]:
    """The three paths with what both versions of the format say alike."""
    prefix = f"/{settings.path_prefix.strip('/')}" if settings.path_prefix else ""
    said = {
        "": ("get", "ServiceHealthCheck", "Simple health check endpoint to ensure the service is "
             "up at any given point."),
        "score": ("post", "RunMLService", "Run web service's model and get the prediction output"),
        "swagger.json": ("get", "GetSwaggerSpec", "Get the Swagger specification."),
    }  # fmt: skip
    paths: dict[str, Json] = {}
    for name, (method, operation, description) in said.items():
        paths[f"{prefix}/{name}"] = {
            method: {
                "operationId": operation,
                "description": description,
                "responses": {"200": answers[name], "default": answers["error"]},
            }
        }
    paths[f"{prefix}/score"]["post"]["security"] = [{"Bearer": []}]
    return paths


def _info(settings: Settings) -> Json:
    name = settings.service_name
    return {
        "title": name,
        "description": f"API specification for the Azure Machine Learning service {name}",
        "version": settings.service_version,
    }


def _version_2(settings: Settings, given: Json, returned: Json) -> Json:
    def refers(to: str) -> Json:
        return {"$ref": f"#/definitions/{to}"}

    text = {"type": "string"}
    health = {"description": _HEALTH_SAID, "schema": text}
    health["examples"] = {"application/json": "Healthy"}
    paths = _operations(
        settings,
        {
            "": health,
            "score": {"description": _SCORE_SAID, "schema": refers("ServiceOutput")},
            "swagger.json": {"description": "The Swagger specification.", "schema": text},
            "error": {"description": _FAILED_SAID, "schema": refers("ErrorResponse")},
        },
    )
    for path, operations in paths.items():
        if path.endswith("/score"):
            operations["post"]["parameters"] = [
                {
                    "name": "serviceInputPayload",
                    "in": "body",
                    "description": "The input payload for executing the real-time machine "
                    "learning service.",
                    "schema": refers("ServiceInput"),
                }
            ]
        elif path.endswith("/swagger.json"):
            version = {"name": "version", "in": "query", "required": False}
            operations["get"]["parameters"] = [{**version, "type": "integer", "enum": [2, 3]}]
    return {
        "swagger": "2.0",
        "info": _info(settings),
        "schemes": ["https"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": _BEARER,
        "paths": paths,
        "definitions": {
            "ServiceInput": given,
            "ServiceOutput": returned,
            "ErrorResponse": _ERROR,
        },
    }


def _version_3(settings: Settings, given: Json, returned: Json) -> Json:
    def refers(to: str) -> Json:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{to}"}}}

    text = {"type": "string"}
    healthy = {"text/plain": {"schema": {**text, "example": "Healthy"}}}
    paths = _operations(
        settings,
        {
            "": {"description": _HEALTH_SAID, "content": healthy},
            "score": {"description": _SCORE_SAID, "content": refers("ServiceOutput")},
            "swagger.json": {
                "description": "The Swagger specification.",
                "content": {"text/plain": {"schema": text}},
            },
            "error": {"description": _FAILED_SAID, "content": refers("ErrorResponse")},
        },
    )
    for path, operations in paths.items():
        if path.endswith("/score"):
            operations["post"]["requestBody"] = {
                "description": "The input payload for executing the real-time machine learning "
                "service.",
                "content": refers("ServiceInput"),
            }
        elif path.endswith("/swagger.json"):
            version = {"name": "version", "in": "query", "required": False}
            integer = {"type": "integer", "enum": [2, 3]}
            operations["get"]["parameters"] = [{**version, "schema": integer}]
    return {
        "openapi": "3.0.3",
        "info": _info(settings),
        "security": [{"Bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {
                "ServiceInput": given,
                "ServiceOutput": returned,
                "ErrorResponse": _ERROR,
            },
            "securitySchemes": _BEARER,
        },
    }
