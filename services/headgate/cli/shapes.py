"""Resources as ``az ml`` prints them: the names of the YAML files, and what the system adds."""

from __future__ import annotations

from typing import Any

from headgate.client import Found
from headgate_contracts.assets import DataSpec
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.resources import (
    DeploymentSpec,
    EndpointSpec,
    EnvironmentSpec,
    ModelSpec,
)
from headgate_contracts.storage import ComputeSpec, DatastoreSpec

Document = dict[str, Any]


def endpoint(found: Found[EndpointSpec], deployments: tuple[str, ...] = ()) -> Document:
    """``deployments`` without a share of the traffic are shown with 0, as Azure does."""
    document = found.spec.model_dump(mode="json", exclude_none=True)
    document["traffic"] = dict.fromkeys(deployments, 0) | document["traffic"]
    document["properties"] = _text_map(found.properties.get("properties"))
    return _sorted(
        document
        | _common(found)
        | {
            "provisioning_state": found.state,
            "scoring_uri": found.properties.get("scoringUri"),
            "openapi_uri": found.properties.get("swaggerUri"),
        }
    )


def deployment(found: Found[DeploymentSpec]) -> Document:
    document = found.spec.model_dump(mode="json", exclude_none=True)
    document["properties"] = _text_map(found.properties.get("properties"))
    document |= _common(found) | {
        "type": "managed",
        "provisioning_state": found.state,
        "power_state": found.properties.get("powerState", "Running"),
        "ready_instances": found.properties.get("readyInstances", 0),
    }
    if (error := found.error) is not None:
        document["error"] = {"code": error.code.value, "message": error.message}
    return _sorted(document)


def batch_endpoint(found: Found[BatchEndpointSpec]) -> Document:
    document = found.spec.model_dump(mode="json", exclude_none=True)
    document["properties"] = _text_map(found.properties.get("properties"))
    return _sorted(
        document
        | _common(found)
        | {"provisioning_state": found.state, "scoring_uri": found.properties.get("scoringUri")}
    )


def batch_deployment(found: Found[BatchDeploymentSpec]) -> Document:
    document = found.spec.model_dump(mode="json", exclude_none=True)
    document["properties"] = _text_map(found.properties.get("properties"))
    return _sorted(document | _common(found) | {"provisioning_state": found.state})


def model(found: Found[ModelSpec]) -> Document:
    return _version(found)


def environment(found: Found[EnvironmentSpec]) -> Document:
    return _version(found)


def data(found: Found[DataSpec]) -> Document:
    return _version(found)


def datastore(found: Found[DatastoreSpec]) -> Document:
    """Without any secret: the command line never prints one."""
    document = found.spec.model_dump(mode="json", exclude_none=True)
    if found.spec.type in ("s3", "gcs"):
        document["bucket"] = document.pop("container_name")
    if found.spec.type == "http":
        document["url"] = f"{document.pop('protocol')}://{document.pop('container_name')}"
    document = {name: value for name, value in document.items() if value != ""}
    document["credentials"] = {key: text for key, text in document["credentials"].items() if text}
    document["is_default"] = bool(found.properties.get("isDefault"))
    return _sorted(document | _common(found))


def compute(found: Found[ComputeSpec]) -> Document:
    document = found.spec.model_dump(mode="json", exclude_none=True)
    added = {"type": "amlcompute", "provisioning_state": found.state}
    return _sorted(document | _common(found) | added)


def instance_type(body: Document) -> Document:
    """One size of the catalogue, with the names of its file."""
    prices = body.get("estimatedVMPrices") or {}
    values = prices.get("values") or [{}]
    return {
        "name": body.get("name"),
        "cores": body.get("cores"),
        "memory_gib": body.get("memoryGB"),
        "gpus": body.get("gpus"),
        "price_per_hour": values[0].get("retailPrice"),
        "currency": prices.get("billingCurrency"),
        "elastic": body.get("isElastic"),
        "description": body.get("description"),
    }


def workspace(body: Document) -> Document:
    properties = body.get("properties") or {}
    return {
        "name": body.get("name"),
        "display_name": properties.get("friendlyName"),
        "location": body.get("location"),
        "resource_group": str(body.get("id", "")).split("/")[4:5][0],
        "id": body.get("id"),
        "discovery_url": properties.get("discoveryUrl"),
        "storage_account": properties.get("storageAccount"),
    }


def _version(found: Found[Any]) -> Document:
    """What is so for nearly all versions is left out."""
    document = found.spec.model_dump(mode="json", exclude_none=True)
    for name in ("stage", "is_anonymous"):
        if not document.get(name):
            document.pop(name, None)
    if found.properties.get("isArchived"):
        document["is_archived"] = True
    return _sorted(document | _common(found))


def container(body: Document) -> Document:
    """One name of an asset, as lists show it."""
    properties = body.get("properties") or {}
    return {
        "name": body.get("name"),
        "latest_version": properties.get("latestVersion"),
        "description": properties.get("description", ""),
        "tags": properties.get("tags") or {},
    }


def principal(body: Document) -> Document:
    """Who is calling."""
    return {
        "subject": body.get("subject"),
        "name": body.get("name"),
        "grants": body.get("grants") or [],
        "token_id": body.get("tokenId"),
        "expires_at": body.get("expiresAt"),
    }


def token(body: Document) -> Document:
    """An access token; the secret itself only where it has just been made."""
    names = {
        "id": "id",
        "name": "name",
        "grants": "grants",
        "createdAt": "created_at",
        "createdBy": "created_by",
        "expiresAt": "expires_at",
        "revokedAt": "revoked_at",
        "token": "token",
    }
    return {ours: body[wire] for wire, ours in names.items() if wire in body}


def identity(body: Document) -> Document:
    """A managed identity."""
    properties = body.get("properties") or {}
    return {
        "name": body.get("name"),
        "id": body.get("id"),
        "principal_id": properties.get("principalId"),
        "client_id": properties.get("clientId"),
        "tenant_id": properties.get("tenantId"),
        "workspace": properties.get("workspace"),
        "grants": properties.get("grants") or [],
    }


def _common(found: Found[Any]) -> Document:
    return {
        name: found.body[name] for name in ("id", "kind", "location") if found.body.get(name)
    } | _times(found.body)


def _times(body: Document) -> Document:
    data = body.get("systemData") or {}
    created, modified = data.get("createdAt"), data.get("lastModifiedAt")
    return {"creation_context": {"created_at": created, "last_modified_at": modified}}


def _text_map(value: Any) -> dict[str, str]:
    return dict(value) if isinstance(value, dict) else {}


def _sorted(document: Document) -> Document:
    """In the order of the names, as ``az`` prints, but the name first."""
    return {"name": document["name"]} | dict(sorted(document.items()))
