"""Whole resources, pages, operations and errors as the gateway answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headgate.azure import arm, arm_collection, arm_data, storage_uris
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import WORKSPACE_TYPE, Context
from headgate_contracts.assets import Data, DataSpec
from headgate_contracts.errors import ErrorCode, ErrorDetail, WireError, number_of
from headgate_contracts.provisioning import Instance
from headgate_contracts.resources import (
    Code,
    Deployment,
    Endpoint,
    Environment,
    Model,
    Operation,
    Resource,
)

_ADDRESSES = {"modelUri", "codeUri", "dataUri"}
Asset = Model | Environment | Code | Data


def timestamp(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def scoring_uri(context: Context, endpoint: str) -> str:
    return f"{context.scoring_url}/api/v1/endpoint/{endpoint}/score"


def swagger_uri(context: Context, endpoint: str) -> str:
    return f"{context.scoring_url}/api/v1/endpoint/{endpoint}/swagger.json"


def endpoint_resource(endpoint: Endpoint, context: Context, *, operation_url: str = "") -> Json:
    """``operation_url`` is set while an answer belongs to a long-running operation."""
    spec = endpoint.spec
    body = arm.dumped(arm.ENDPOINT, spec, full=True)
    body.setdefault("identity", {"type": "SystemAssigned"})
    properties = body["properties"]
    properties["properties"] |= {
        arm.ENDPOINT_ID_PROPERTY: context.endpoint_id(spec.name),
        **({arm.OPERATION_PROPERTY: operation_url} if operation_url else {}),
    }
    properties |= {
        "provisioningState": endpoint.provisioning_state.value,
        "scoringUri": scoring_uri(context, spec.name),
        "swaggerUri": swagger_uri(context, spec.name),
    }
    return {
        **envelope(context.endpoint_id(spec.name), spec.name, "onlineEndpoints", endpoint),
        "location": context.location,
        "kind": "Managed",
        **body,
    }


def deployment_resource(
    deployment: Deployment, context: Context, *, operation_url: str = ""
) -> Json:
    """References are written as full resource ids, as Azure does."""
    spec = deployment.spec
    body = arm.dumped(arm.DEPLOYMENT, spec, full=True)
    properties = body["properties"]
    for wire, kind in (("model", "models"), ("environmentId", "environments")):
        if wire in properties:
            properties[wire] = context.full_reference(kind, properties[wire])
    if code := properties.get("codeConfiguration"):
        code["codeId"] = context.full_reference("codes", code["codeId"])
    arm_collection.name_data(properties, context)
    if operation_url:
        properties["properties"][arm.OPERATION_PROPERTY] = operation_url
    properties |= {
        "provisioningState": deployment.provisioning_state.value,
        "powerState": "Stopped" if deployment.is_stopped else "Running",
        "readyInstances": deployment.ready_instances,
        "environmentBuild": deployment.environment_build,
    }
    if deployment.error is not None:
        properties["error"] = error_body(deployment.error)["error"]
    identifier = context.deployment_id(spec.endpoint_name, spec.name)
    return {
        **envelope(identifier, spec.name, "onlineEndpoints/deployments", deployment),
        "location": context.location,
        "kind": "Managed",
        **body,
    }


def kind_of(asset: Asset) -> str:
    """The path segment of an asset's kind."""
    if isinstance(asset, Model):
        return "models"
    if isinstance(asset, Data):
        return "data"
    return "environments" if isinstance(asset, Environment) else "codes"


def asset_resource(asset: Asset, context: Context) -> Json:
    """One version of a model, environment or code folder."""
    kind, spec = kind_of(asset), asset.spec
    if isinstance(asset, Model):
        body = arm.dumped(arm.MODEL, asset.spec, full=True)
        body["properties"]["flavors"] = {}
    elif isinstance(asset, Environment):
        body = arm.dumped(arm.ENVIRONMENT, asset.spec, full=True)
        body["properties"]["environmentType"] = "UserCreated"
    elif isinstance(asset, Data):
        body = arm.dumped(arm_data.DATA, asset.spec, full=True)
    else:
        body = arm.code_body(asset.spec, full=True)
    for wire in _ADDRESSES & body["properties"].keys():
        uri = storage_uris.to_uri(body["properties"][wire], context.workspace_id)
        body["properties"][wire] = uri
    if not body["properties"].get("stage", "-"):
        del body["properties"]["stage"]
    body["properties"]["isArchived"] = asset.is_archived
    body["properties"]["provisioningState"] = "Succeeded"
    identifier = context.asset_id(kind, spec.name, spec.version)
    return {**envelope(identifier, spec.version, f"{kind}/versions", asset), **body}


def container_resource(versions: Sequence[Asset], context: Context) -> Json:
    """What all versions of one name have in common; ``versions`` newest first, at least one."""
    newest = next((each for each in versions if not each.is_archived), versions[0])
    kind, spec = kind_of(newest), newest.spec
    kind_only = {"dataType": spec.type} if isinstance(spec, DataSpec) else {}
    return {
        **envelope(context.container_id(kind, spec.name), spec.name, kind, newest),
        "properties": {
            "description": spec.description,
            "tags": spec.tags,
            "properties": {},
            "latestVersion": spec.version,
            "nextVersion": next_version([asset.spec.version for asset in versions]),
            "isArchived": newest.is_archived,
            "provisioningState": "Succeeded",
            **kind_only,
        },
    }


def next_version(versions: Sequence[str]) -> str:
    """The version that a client which names none should take: the highest number plus one."""
    return str(max((int(v) for v in versions if v.isascii() and v.isdecimal()), default=0) + 1)


def operation_resource(operation: Operation, context: Context) -> Json:
    """The state of a long-running operation."""
    body: Json = {
        "id": context.operation_id(operation.id),
        "name": operation.id,
        "status": operation.status.value,
        "startTime": timestamp(operation.started_at),
        "percentComplete": operation.percent_complete,
        "properties": {"kind": operation.kind, "resource": operation.resource},
    }
    if operation.ended_at is not None:
        body["endTime"] = timestamp(operation.ended_at)
    if operation.error is not None:
        body["error"] = error_body(operation.error)["error"]
    return body


def instance_resource(instance: Instance, quarantined_s: float | None = None) -> Json:
    """One running copy of a deployment's model. Ours: Azure shows none.

    ``quarantined_s``: how long routers will leave it out, if any does.
    """
    body: Json = {
        "id": instance.id,
        "endpoint": instance.endpoint,
        "deployment": instance.deployment,
        "state": instance.state,
        "version": instance.spec,
        "pid": instance.pid,
        "restarts": instance.restarts,
        "livenessFailures": instance.liveness_failures,
        "readinessFailures": instance.readiness_failures,
        "startedAt": timestamp(instance.started_at),
    }
    if instance.ready_at is not None:
        body["readyAt"] = timestamp(instance.ready_at)
    if quarantined_s is not None:
        body["quarantinedForS"] = quarantined_s
    if instance.error is not None:
        body["error"] = error_body(instance.error)["error"]
    if instance.collection is not None:
        body["collection"] = instance.collection.model_dump()
    return body


def page(items: Sequence[Json], next_link: str = "") -> Json:
    """One page of a list."""
    return {"value": list(items), **({"nextLink": next_link} if next_link else {})}


def error_body(error: WireError) -> Json:
    """An error as ARM writes it; our number and blame are in the additional info."""
    return {
        "error": {
            "code": error.code.value,
            "message": error.message,
            "target": error.target,
            "details": [detail.model_dump() for detail in error.details],
            "additionalInfo": [
                {
                    "type": "Headgate",
                    "info": {"number": number_of(error.code), "blame": error.blame.value},
                }
            ],
        }
    }


def error_of(body: Any) -> WireError | None:
    """The error in an answer's body; None when there is none in ARM's form."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping) or not isinstance(error.get("message"), str):
        return None
    code = error.get("code")
    details = error.get("details") or ()
    return WireError(
        code=next((known for known in ErrorCode if known == code), ErrorCode.INTERNAL),
        message=error["message"],
        target=str(error.get("target") or ""),
        details=tuple(
            ErrorDetail(
                code=str(detail.get("code", "")),
                message=str(detail.get("message", "")),
                target=str(detail.get("target") or ""),
            )
            for detail in details
            if isinstance(detail, Mapping)
        ),
    )


def system_data(resource: Resource) -> Json:
    """Who made and changed a resource, and when; who is left out where nobody is known."""
    data = {
        "createdAt": timestamp(resource.created_at),
        "lastModifiedAt": timestamp(resource.updated_at),
    }
    who = {"createdBy": resource.created_by, "lastModifiedBy": resource.updated_by}
    for field, subject in who.items():
        if subject:
            data |= {field: subject, f"{field}Type": _kind_of(subject)}
    return data


def _kind_of(subject: str) -> str:
    """What Azure calls such a principal: models act under managed identities."""
    return "ManagedIdentity" if subject.startswith(("endpoint:", "identity:")) else "User"


def envelope(identifier: str, name: str, kind: str, resource: Resource) -> Json:
    """What every resource of ARM has around its properties."""
    return {
        "id": identifier,
        "name": name,
        "type": f"{WORKSPACE_TYPE}/{kind}",
        "systemData": system_data(resource),
    }
