"""Contract resources as Azure Resource Manager writes them, and back.

Bodies (what a client sends) leave defaults out; resources (what the gateway answers) are complete.
Every ``*_spec`` accepts a body as well as a whole resource, because clients send back what they
were given: read-only fields are dropped, unknown ones are refused by their JSON pointer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from headgate.azure import arm_collection, arm_ids
from headgate.azure.arm_fields import (
    MILLISECONDS,
    SECONDS,
    Field,
    Form,
    Json,
    Problems,
    Shape,
    checked,
    choice,
    constant,
    reference_to,
)
from headgate.azure.arm_ids import LOCATION
from headgate_contracts.envelope import Value
from headgate_contracts.resources import (
    CodeSpec,
    DeploymentSpec,
    EndpointKeys,
    EndpointSpec,
    EnvironmentSpec,
    KeyType,
    ModelSpec,
)

S = TypeVar("S", bound=Value)

# What the system itself puts among a resource's properties, and clients send back.
ENDPOINT_ID_PROPERTY = "azureml.onlineendpointid"
OPERATION_PROPERTY = "AzureAsyncOperationUri"
# Azure's Python client shows systemData as properties, and sends these back as well.
_CLIENT_PROPERTIES = ("createdBy", "createdAt", "lastModifiedAt")
_SYSTEM_PROPERTIES = frozenset(
    name.lower() for name in (ENDPOINT_ID_PROPERTY, OPERATION_PROPERTY, *_CLIENT_PROPERTIES)
)
CODE_HASH_PROPERTY = "hash_sha256"

_OBSERVED = ("provisioningState", "powerState", "readyInstances", "environmentBuild", "error")
ENVELOPE_READ_ONLY = ("id", "name", "type", "kind", "location", "systemData", "etag")
_SWITCH = choice({"enabled": "Enabled", "disabled": "Disabled"})


def _load_properties(value: Any) -> Any:
    """All values are text; Azure's client also sends numbers (the version of a code's hash)."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: json.dumps(item) if isinstance(item, bool | int | float) else item
        for key, item in value.items()
        if key.lower() not in _SYSTEM_PROPERTIES
    }


def _dump_identities(identities: Sequence[Any]) -> Json:
    return {
        item if isinstance(item, str) else item.get("resource_id", ""): {} for item in identities
    }


def _load_identities(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        raise ValueError("an object with resource ids as keys is expected")
    return list(value)


PROPERTIES = Form(
    lambda value: value,
    _load_properties,
    {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
)
_IDENTITY = Shape(
    Field(
        "type",
        "type",
        choice(
            {"system_assigned": "SystemAssigned", "user_assigned": "UserAssigned", "none": "None"}
        ),
    ),
    Field(
        "userAssignedIdentities",
        "user_assigned_identities",
        Form(_dump_identities, _load_identities, {"type": "object"}),
    ),
    ignored=("principalId", "tenantId"),
)

ENDPOINT = Shape(
    Field("tags", "tags"),
    Field("identity", "identity", _IDENTITY),
    Field(
        "properties",
        "",
        Shape(
            Field(
                "authMode",
                "auth_mode",
                choice({"key": "Key", "aml_token": "AMLToken", "aad_token": "AADToken"}),
            ),
            Field("description", "description"),
            Field("compute", "compute"),
            Field("properties", "properties", PROPERTIES),
            Field("traffic", "traffic"),
            Field("mirrorTraffic", "mirror_traffic"),
            Field("publicNetworkAccess", "public_network_access", _SWITCH),
            ignored=("provisioningState", "scoringUri", "swaggerUri", "keys"),
        ),
    ),
    ignored=(*ENVELOPE_READ_ONLY, "sku"),
)

_PROBE = Shape(
    Field("initialDelay", "initial_delay", SECONDS),
    Field("period", "period", SECONDS),
    Field("timeout", "timeout", SECONDS),
    Field("successThreshold", "success_threshold"),
    Field("failureThreshold", "failure_threshold"),
)
_SCALE = Shape(
    Field(
        "scaleType",
        "type",
        choice({"default": "Default", "target_utilization": "TargetUtilization"}),
    ),
    Field("minInstances", "min_instances"),
    Field("maxInstances", "max_instances"),
    Field("targetUtilizationPercentage", "target_utilization_percentage"),
    Field("pollingInterval", "polling_interval", SECONDS),
    Field("targetConcurrency", "target_concurrency"),
    Field("stableWindow", "stable_window", SECONDS),
    Field("panicWindowPercentage", "panic_window_percentage"),
    Field("panicThresholdPercentage", "panic_threshold_percentage"),
    Field("scaleDownDelay", "scale_down_delay", SECONDS),
    Field("scaleToZeroGrace", "scale_to_zero_grace", SECONDS),
    Field("maxHeldRequests", "max_held_requests"),
)
SKU = Shape(
    Field("name", "", constant("Default", required=False)),
    Field("capacity", "instance_count"),
    ignored=("tier", "size", "family"),
)

DEPLOYMENT = Shape(
    Field("tags", "tags"),
    Field("sku", "", SKU),
    Field(
        "properties",
        "",
        Shape(
            Field("endpointComputeType", "", constant("Managed")),
            Field("description", "description"),
            Field("properties", "properties", PROPERTIES),
            Field("model", "model", reference_to("models")),
            Field("modelMountPath", "model_mount_path"),
            Field(
                "codeConfiguration",
                "code_configuration",
                Shape(
                    Field("codeId", "code", reference_to("codes")),
                    Field("scoringScript", "scoring_script"),
                ),
            ),
            Field("environmentId", "environment", reference_to("environments")),
            Field("environmentVariables", "environment_variables"),
            Field("instanceType", "instance_type"),
            Field("appInsightsEnabled", "app_insights_enabled"),
            Field("scaleSettings", "scale_settings", _SCALE),
            Field(
                "requestSettings",
                "request_settings",
                Shape(
                    Field("requestTimeout", "request_timeout_ms", MILLISECONDS),
                    Field(
                        "maxConcurrentRequestsPerInstance", "max_concurrent_requests_per_instance"
                    ),
                    Field("maxQueueWait", "max_queue_wait_ms", MILLISECONDS),
                ),
            ),
            Field(
                "batching",
                "batching",
                Shape(Field("maxRows", "max_rows"), Field("maxWait", "max_wait_ms", MILLISECONDS)),
            ),
            Field("livenessProbe", "liveness_probe", _PROBE),
            Field("readinessProbe", "readiness_probe", _PROBE),
            Field("startupProbe", "startup_probe", _PROBE),
            Field("dataCollector", "data_collector", arm_collection.DATA_COLLECTOR),
            Field("egressPublicNetworkAccess", "egress_public_network_access", _SWITCH),
            ignored=_OBSERVED,
        ),
    ),
    ignored=(*ENVELOPE_READ_ONLY, "identity"),
)

_REFERENCES = (
    "/properties/model",
    "/properties/environmentId",
    "/properties/codeConfiguration/codeId",
)

_ASSET_FIELDS = (
    Field("description", "description"),
    Field("tags", "tags"),
    Field("properties", "properties", PROPERTIES),
    Field("isAnonymous", "is_anonymous"),
)
# Whether a version is archived is no part of what it is: arm_data.is_archived reads that.
_ASSET_IGNORED = ("provisioningState", "assetId", "isArchived", "intellectualProperty")
_MODEL_TYPES = choice({word: word for word in ("custom_model", "mlflow_model", "triton_model")})


def asset_shape(*fields: Field, ignored: Sequence[str] = ()) -> Shape:
    inner = Shape(*_ASSET_FIELDS, *fields, ignored=(*_ASSET_IGNORED, *ignored))
    return Shape(Field("properties", "", inner), ignored=ENVELOPE_READ_ONLY)


_ROUTE = Shape(Field("path", "path"), Field("port", "port"))
MODEL = asset_shape(
    Field("modelUri", "path"),
    Field("modelType", "type", _MODEL_TYPES),
    Field("stage", "stage"),
    ignored=("flavors", "jobName", "datastoreId", "systemMetadata"),
)
ENVIRONMENT = asset_shape(
    Field("image", "image"),
    Field("condaFile", "conda_file"),
    Field(
        "build",
        "build",
        Shape(Field("contextUri", "path"), Field("dockerfilePath", "dockerfile_path")),
    ),
    Field(
        "inferenceConfig",
        "inference_config",
        Shape(
            Field("livenessRoute", "liveness_route", _ROUTE),
            Field("readinessRoute", "readiness_route", _ROUTE),
            Field("startupRoute", "startup_route", _ROUTE),
            Field("scoringRoute", "scoring_route", _ROUTE),
        ),
    ),
    Field("osType", "", constant("Linux")),
    ignored=("autoRebuild", "environmentType", "stage"),
)
CODE = asset_shape(Field("codeUri", "path"))
REGENERATE_KEY = Shape(
    Field("keyType", "key_type", choice({"primary": "Primary", "secondary": "Secondary"})),
    Field("keyValue", "value"),
)
PENDING_UPLOAD = Shape(
    Field("pendingUploadType", "", constant("TemporaryBlobReference")),
    Field("pendingUploadId", "id"),
)
_KEYS = Shape(Field("primaryKey", "primary_key"), Field("secondaryKey", "secondary_key"))


def dumped(shape: Shape, spec: Value, *, full: bool) -> Json:
    """A spec as JSON; ``full`` writes the defaults out."""
    return shape.dump(spec.model_dump(mode="json", exclude_defaults=not full))


def loaded(model: type[S], shape: Shape, body: Any, given: Json) -> S:
    """The contract value of a body; ``given`` is what the address says already."""
    problems = Problems()
    values = shape.load(body, problems)
    return checked(model, {**values, **given}, shape, problems)


# --- endpoints ---------------------------------------------------------------------------------


def endpoint_body(spec: EndpointSpec, location: str = LOCATION) -> Json:
    """The body that creates or replaces an endpoint. The name is in the address."""
    return {"location": location, **dumped(ENDPOINT, spec, full=False)}


def endpoint_spec(name: str, body: Any) -> EndpointSpec:
    """The endpoint that a body or resource describes."""
    return loaded(EndpointSpec, ENDPOINT, body, {"name": name})


def endpoint_keys(body: Any) -> EndpointKeys | None:
    """The keys that a body wants a new endpoint to have, if any."""
    properties = body.get("properties") if isinstance(body, Mapping) else None
    keys = properties.get("keys") if isinstance(properties, Mapping) else None
    if keys is None:
        return None
    shape = Shape(Field("properties", "", Shape(Field("keys", "", _KEYS))))
    return loaded(EndpointKeys, shape, {"properties": {"keys": keys}}, {})


def keys_body(keys: EndpointKeys) -> Json:
    return _KEYS.dump(keys.model_dump())


def keys_of(body: Any) -> EndpointKeys:
    return loaded(EndpointKeys, _KEYS, body, {})


class KeyChoice(Value):
    """Which key a client wants anew."""

    key_type: KeyType = KeyType.PRIMARY
    value: str = ""


def key_choice(body: Any) -> tuple[KeyType, str]:
    """Which key to regenerate, and the value the client sent along."""
    chosen = loaded(KeyChoice, REGENERATE_KEY, body, {})
    return chosen.key_type, chosen.value


def key_choice_body(key_type: KeyType) -> Json:
    return REGENERATE_KEY.dump({"key_type": key_type.value})


# --- deployments -------------------------------------------------------------------------------


def deployment_body(spec: DeploymentSpec, location: str = LOCATION) -> Json:
    """The body that creates or replaces a deployment. The names are in the address."""
    return {"location": location, **dumped(DEPLOYMENT, spec, full=False)}


def deployment_spec(
    endpoint: str, name: str, body: Any, *, workspace: str | None = None
) -> DeploymentSpec:
    """The deployment that a body or resource describes.

    With ``workspace``, resource ids that point into any other one are refused: a short contract
    reference could not tell them apart.
    """
    if workspace is not None:
        pointers = (*_REFERENCES, *arm_collection.references(body))
        arm_ids.refuse_foreign(body, pointers, workspace)
    return loaded(DeploymentSpec, DEPLOYMENT, body, {"name": name, "endpoint_name": endpoint})


# --- assets ------------------------------------------------------------------------------------


def model_body(spec: ModelSpec) -> Json:
    return dumped(MODEL, spec, full=False)


def model_spec(name: str, version: str, body: Any) -> ModelSpec:
    return loaded(ModelSpec, MODEL, body, {"name": name, "version": version})


def environment_body(spec: EnvironmentSpec) -> Json:
    return dumped(ENVIRONMENT, spec, full=False)


def environment_spec(name: str, version: str, body: Any) -> EnvironmentSpec:
    return loaded(EnvironmentSpec, ENVIRONMENT, body, {"name": name, "version": version})


def code_body(spec: CodeSpec, *, full: bool = False) -> Json:
    """Azure keeps the content hash of a code version among its properties."""
    values = spec.model_dump(mode="json", exclude_defaults=not full)
    if spec.sha256:
        values["properties"] = {**spec.properties, CODE_HASH_PROPERTY: spec.sha256}
    return CODE.dump(values)


def code_spec(name: str, version: str, body: Any) -> CodeSpec:
    spec = loaded(CodeSpec, CODE, body, {"name": name, "version": version})
    sha256 = spec.properties.get(CODE_HASH_PROPERTY)
    if sha256 is None:
        return spec
    rest = {key: text for key, text in spec.properties.items() if key != CODE_HASH_PROPERTY}
    return spec.model_copy(update={"sha256": sha256, "properties": rest})


class PendingUpload(Value):
    """An upload about to begin; ``id`` is the digest of its content."""

    id: str = ""


def pending_upload(body: Any) -> str:
    """The digest of the files that a client wants to send."""
    return loaded(PendingUpload, PENDING_UPLOAD, body, {}).id
