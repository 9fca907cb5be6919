"""JSON Schemas of what the gateway answers, from the same tables that write the answers.

A resource is its body, complete and without defaults left out, with what the system adds. Nothing
else may be in it: whoever adds a field to an answer says so here.
"""

from __future__ import annotations

from typing import Any

from headgate.azure import arm, arm_batch
from headgate.azure.arm_fields import Json, Shape
from headgate.azure.arm_ids import LOCATION
from headgate.azure.arm_schema import plain_body
from headgate_contracts import batch, limits, resources
from headgate_contracts.errors import Blame, ErrorCode
from headgate_contracts.resources import OperationStatus, ProvisioningState

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
TIME: Json = {"type": "string", "format": "date-time"}
URL: Json = {"type": "string", "format": "uri"}
TEXTS: Json = {"type": "object", "additionalProperties": TEXT}
WORDS: Json = {"type": "array", "items": TEXT}
NOTHING: Json = {"type": "object", "maxProperties": 0}
_FLAG: Json = {"type": "boolean"}
_STATE: Json = {"type": "string", "enum": [state.value for state in ProvisioningState]}
_SYSTEM_DATA_FIELDS = tuple(
    f"{what}{field}" for what in ("created", "lastModified") for field in ("At", "By", "ByType")
)


def plain(title: str = "", /, *, optional: tuple[str, ...] = (), **properties: Json) -> Json:
    """An object with exactly these fields. With a title it is described once, by that name."""
    return {
        **({"title": title} if title else {}),
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(item: Json) -> Json:
    """One page of a list."""
    return plain(optional=("nextLink",), value={"type": "array", "items": item}, nextLink=URL)


DETAIL = plain("ErrorDetail", code=TEXT, message=TEXT, target=TEXT)
_INFO = plain(
    number={"type": "integer"}, blame={"type": "string", "enum": [blame.value for blame in Blame]}
)
_ERROR_FIELDS = plain(
    "ErrorFields",
    code={"type": "string", "enum": [code.value for code in ErrorCode]},
    message=TEXT,
    target={**TEXT, "description": "JSON pointer of the field, or its name, or empty"},
    details={"type": "array", "items": DETAIL},
    additionalInfo={"type": "array", "items": plain(type=TEXT, info=_INFO)},
)
ERROR = plain("Error", error=_ERROR_FIELDS)


def _given(body: Json, **added: Json) -> Json:
    """A body as it is answered: nothing is required of it, read-only fields are what we add."""
    properties = {
        name: _given(inner) if "properties" in inner else inner
        for name, inner in body["properties"].items()
        if inner != {"readOnly": True}
    }
    return {
        "type": "object",
        "properties": {**properties, **added},
        "additionalProperties": False,
    }


def resource(title: str, shape: Shape, model: Any, top: Json, properties: Json) -> Json:
    """The schema of a resource: ``top`` is added beside ``properties``, the rest inside it."""
    body = _given(plain_body(shape, model))
    inner = _given(body["properties"].pop("properties"), **properties)
    return {
        "title": title,
        **body,
        "properties": {**_ENVELOPE, **body["properties"], **top, "properties": inner},
        "required": [*_ENVELOPE, "properties"],
    }


_ENVELOPE: Json = {
    "id": TEXT,
    "name": TEXT,
    "type": TEXT,
    "systemData": {
        "type": "object",
        "properties": {name: TIME if name.endswith("At") else TEXT for name in _SYSTEM_DATA_FIELDS},
        "additionalProperties": False,
    },
}
_LOCATED: Json = {"location": {"type": "string", "const": LOCATION}}
_MANAGED: Json = {**_LOCATED, "kind": {"type": "string", "const": "Managed"}}
_FAILURE: Json = {"error": _ERROR_FIELDS}
_ENDPOINT_ADDED: Json = {"provisioningState": _STATE, "scoringUri": URL}

ENDPOINT = resource(
    "OnlineEndpoint",
    arm.ENDPOINT,
    resources.EndpointSpec,
    _MANAGED,
    {**_ENDPOINT_ADDED, "swaggerUri": URL},
)
ENDPOINT["properties"]["identity"]["properties"] |= {"principalId": TEXT, "tenantId": TEXT}
DEPLOYMENT = resource(
    "OnlineDeployment",
    arm.DEPLOYMENT,
    resources.DeploymentSpec,
    _MANAGED,
    {
        "provisioningState": _STATE,
        "powerState": {"enum": ["Running", "Stopped"]},
        "readyInstances": COUNT,
        "environmentBuild": TEXT,
        **_FAILURE,
    },
)
BATCH_ENDPOINT = resource(
    "BatchEndpoint", arm_batch.ENDPOINT, batch.BatchEndpointSpec, _LOCATED, _ENDPOINT_ADDED
)
BATCH_DEPLOYMENT = resource(
    "BatchDeployment",
    arm_batch.DEPLOYMENT,
    batch.BatchDeploymentSpec,
    _LOCATED,
    {"provisioningState": _STATE},
)

_VERSION_ADDED: Json = {"isArchived": _FLAG, "provisioningState": _STATE}
ASSETS = {
    "models": resource(
        "ModelVersion",
        arm.MODEL,
        resources.ModelSpec,
        {},
        {**_VERSION_ADDED, "flavors": {"type": "object"}},
    ),
    "environments": resource(
        "EnvironmentVersion",
        arm.ENVIRONMENT,
        resources.EnvironmentSpec,
        {},
        {**_VERSION_ADDED, "environmentType": {"const": "UserCreated"}},
    ),
    "codes": resource("CodeVersion", arm.CODE, resources.CodeSpec, {}, _VERSION_ADDED),
}
CONTAINER = plain(
    "AssetContainer",
    **_ENVELOPE,
    properties=plain(
        optional=("dataType",),
        dataType=TEXT,
        description=TEXT,
        tags=TEXTS,
        properties=TEXTS,
        latestVersion=TEXT,
        nextVersion=TEXT,
        isArchived=_FLAG,
        provisioningState=_STATE,
    ),
)
OPERATION = plain(
    "Operation",
    optional=("endTime", "error"),
    id=TEXT,
    name=TEXT,
    status={"type": "string", "enum": [status.value for status in OperationStatus]},
    startTime=TIME,
    endTime=TIME,
    percentComplete={"type": "number", "minimum": 0, "maximum": 100},
    properties=plain(kind=TEXT, resource=TEXT),
    error=_ERROR_FIELDS,
)
INSTANCE = plain(
    "Instance",
    optional=("readyAt", "quarantinedForS", "error", "collection"),
    id=TEXT,
    endpoint=TEXT,
    deployment=TEXT,
    state=TEXT,
    version=TEXT,
    pid={"type": "integer"},
    restarts=COUNT,
    livenessFailures=COUNT,
    readinessFailures=COUNT,
    startedAt=TIME,
    readyAt=TIME,
    quarantinedForS={"type": "number", "minimum": 0},
    error=_ERROR_FIELDS,
    collection=plain(
        "CollectionCounts", collected=COUNT, shipped=COUNT, dropped=COUNT, failed=COUNT
    ),
)
SKU = plain(
    resourceType=TEXT,
    sku=plain(name=TEXT),
    capacity=plain(
        default=COUNT,
        minimum=COUNT,
        maximum={"type": "integer", "maximum": limits.INSTANCES_PER_DEPLOYMENT_MAX},
        scaleType=TEXT,
    ),
)
KEYS = plain("EndpointKeys", primaryKey=TEXT, secondaryKey=TEXT)
SCORING_TOKEN = plain(
    "EndpointToken",
    accessToken=TEXT,
    tokenType={"const": "Bearer"},
    expiryTimeUtc=COUNT,
    refreshAfterTimeUtc=COUNT,
)
LOGS = plain("Logs", content=TEXT, cursor=TEXT)
PENDING_UPLOAD = plain(
    "PendingUpload",
    pendingUploadId=TEXT,
    pendingUploadType=TEXT,
    blobReferenceForConsumption=plain(
        blobUri=URL,
        storageAccountArmId=TEXT,
        credential=plain(credentialType=TEXT, sasUri=URL),
    ),
)

_PERCENT: Json = {"type": "number", "minimum": 0, "maximum": 100}
_BY_STATUS: Json = {"type": "object", "additionalProperties": COUNT}
_LATENCIES: Json = {
    "type": "object",
    "additionalProperties": or_null({"type": "number", "minimum": 0}),
}
_HISTOGRAM: Json = {
    "type": "array",
    "items": plain(
        "LatencyBucket",
        fromMs={"type": "number", "minimum": 0},
        upToMs=or_null({"type": "number", "minimum": 0}),
        count=COUNT,
    ),
}
TRAFFIC = plain(
    "Traffic",
    endpoint=TEXT,
    routers=COUNT,
    since=or_null({"type": "number"}),
    requests=COUNT,
    refused=_BY_STATUS,
    deployments={
        "type": "object",
        "additionalProperties": plain(
            "DeploymentTraffic",
            declaredPercent=_PERCENT,
            observedPercent=or_null(_PERCENT),
            declaredMirrorPercent=_PERCENT,
            requests=COUNT,
            statuses=_BY_STATUS,
            mirrored=_BY_STATUS,
            latencyMs=_LATENCIES,
            mirrorLatencyMs=_LATENCIES,
            latencyHistogram=_HISTOGRAM,
            mirrorLatencyHistogram=_HISTOGRAM,
            inFlight=COUNT,
            readyInstances=COUNT,
            quarantined={
                "type": "object",
                "description": "instance -> seconds until it is back",
                "additionalProperties": {"type": "number", "minimum": 0},
            },
        ),
    },
)
