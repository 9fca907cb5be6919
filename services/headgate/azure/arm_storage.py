"""Datastores, computes and workspaces as Azure Resource Manager writes them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.azure.arm import ENVELOPE_READ_ONLY, dumped, loaded
from headgate.azure.arm_fields import SECONDS, Field, Form, Json, Shape, choice, constant
from headgate.azure.arm_ids import LOCATION, WORKSPACE_TYPE, Context
from headgate.azure.arm_resources import envelope, timestamp
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.storage import Compute, ComputeSpec, Datastore, DatastoreSpec

# contract word -> (ARM's word, where the secret lies in the body)
_CREDENTIALS = {
    "account_key": ("AccountKey", "key"),
    "sas": ("Sas", "sasToken"),
    "service_principal": ("ServicePrincipal", "clientSecret"),
    "access_key": ("AccessKey", "secretAccessKey"),
    "service_account": ("ServiceAccount", "serviceAccountKey"),
}
_TYPES = {"azure_blob": "AzureBlob", "s3": "S3", "gcs": "Gcs", "http": "Http"}
_CREDENTIALS_TYPE = choice(
    {"none": "None"} | {word: arm for word, (arm, _) in _CREDENTIALS.items()}
)


def _kinds(to_arm: Mapping[str, str], advice: str) -> Form:
    """The types that are supported, contract's word -> ARM's; what to do instead of others."""
    known = choice(to_arm)

    def load(value: Any) -> Any:
        try:
            return known.load(value)
        except ValueError:
            raise ValueError(
                f"{str(value)[:40]!r} is not supported here, only {', '.join(to_arm.values())}: "
                f"{advice}"
            ) from None

    return Form(known.dump, load, known.schema)


DATASTORE = Shape(
    Field(
        "properties",
        "",
        Shape(
            Field(
                "datastoreType",
                "type",
                _kinds(
                    _TYPES,
                    "put the files into a container of blobs, or into a bucket",
                ),
            ),
            Field("accountName", "account_name"),
            Field("containerName", "container_name"),
            Field("endpoint", "endpoint"),
            Field("protocol", "protocol", choice({"https": "https", "http": "http"})),
            Field("region", "region"),
            Field("description", "description"),
            Field("tags", "tags"),
            Field("properties", "properties"),
            Field(
                "credentials",
                "credentials",
                Shape(
                    Field("credentialsType", "type", _CREDENTIALS_TYPE),
                    Field("accessKeyId", "access_key_id"),
                    Field("tenantId", "tenant_id"),
                    Field("clientId", "client_id"),
                    Field("authorityUrl", "authority_url"),
                    Field("resourceUrl", "resource_url"),
                    ignored=("secrets",),  # read apart, so that they are in no specification
                ),
            ),
            ignored=(
                "isDefault",
                "serviceDataAccessAuthIdentity",
                "subscriptionId",
                "resourceGroup",
                "resourceUri",
            ),
        ),
    ),
    ignored=ENVELOPE_READ_ONLY,
)


def datastore_body(spec: DatastoreSpec, secret: str = "") -> Json:
    """The body that creates or replaces a datastore."""
    body = dumped(DATASTORE, spec, full=False)
    properties = body.setdefault("properties", {})
    properties["datastoreType"] = _TYPES[spec.type]
    credentials = properties.setdefault("credentials", {"credentialsType": "None"})
    if secret and spec.credentials.type != "none":
        credentials["secrets"] = secrets_body(spec.credentials.type, secret)
    return body


def datastore_spec(name: str, body: Any) -> DatastoreSpec:
    """The datastore that a body or resource describes, without its secret."""
    return loaded(DatastoreSpec, DATASTORE, body, {"name": name})


def datastore_secret(spec: DatastoreSpec, body: Any) -> str:
    """The secret in a body; empty when it has none."""
    found = body
    for part in ("properties", "credentials", "secrets"):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None or spec.credentials.type == "none":
        return ""
    field = _CREDENTIALS[spec.credentials.type][1]
    secret = found.get(field) if isinstance(found, Mapping) else None
    if secret is not None and not isinstance(secret, str):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"the secret {field} must be a text",
            target=f"/properties/credentials/secrets/{field}",
        )
    return secret or ""


def secrets_body(kind: str, secret: str) -> Json:
    """A secret as ``listSecrets`` answers it."""
    if kind == "none":
        return {"secretsType": "None"}
    word, field = _CREDENTIALS[kind]
    return {"secretsType": word, field: secret}


def datastore_resource(datastore: Datastore, context: Context, own_authority: str) -> Json:
    """``own_authority`` is host and port of the gateway, where the built-in datastores lie."""
    spec = datastore.spec
    body = dumped(DATASTORE, spec, full=True)
    properties = body["properties"]
    credentials = {key: text for key, text in properties["credentials"].items() if text}
    if datastore.is_built_in:
        properties["accountName"] = f"{own_authority}/{context.workspace}"
        credentials = {"credentialsType": "AccountKey"}  # opened by what listSecrets gives
    for name in ("accountName", "region"):  # of some types only
        if not properties[name]:
            del properties[name]
    properties |= {
        "credentials": credentials,
        "isDefault": datastore.is_default,
        "serviceDataAccessAuthIdentity": "None",
        "subscriptionId": context.subscription,
        "resourceGroup": context.resource_group,
    }
    identifier = context.container_id("datastores", spec.name)
    return {**envelope(identifier, spec.name, "datastores", datastore), **body}


# --- computes ----------------------------------------------------------------------------------

_POOL = Shape(
    Field("vmSize", "size"),
    Field("vmPriority", "tier", choice({"dedicated": "Dedicated", "low_priority": "LowPriority"})),
    Field(
        "scaleSettings",
        "",
        Shape(
            Field("minNodeCount", "min_instances"),
            Field("maxNodeCount", "max_instances"),
            Field("nodeIdleTimeBeforeScaleDown", "idle_time_before_scale_down", SECONDS),
        ),
    ),
    Field("osType", "", constant("Linux")),
    ignored=(
        "remoteLoginPortPublicAccess",
        "enableNodePublicIp",
        "isolatedNetwork",
        "allocationState",
        "allocationStateTransitionTime",
        "currentNodeCount",
        "targetNodeCount",
        "nodeStateCounts",
        "errors",
        "propertyBag",
        "virtualMachineImage",
    ),
)
COMPUTE = Shape(
    Field("tags", "tags"),
    Field(
        "properties",
        "",
        Shape(
            Field(
                "computeType",
                "",
                constant("AmlCompute"),
            ),
            Field("description", "description"),
            Field("properties", "", _POOL),
            ignored=(
                "disableLocalAuth",
                "provisioningState",
                "provisioningErrors",
                "createdOn",
                "modifiedOn",
                "computeLocation",
                "isAttachedCompute",
                "resourceId",
            ),
        ),
    ),
    ignored=(*ENVELOPE_READ_ONLY, "identity", "sku"),
)


def compute_body(spec: ComputeSpec) -> Json:
    """The body that creates or replaces a compute."""
    return {"location": LOCATION, **dumped(COMPUTE, spec, full=True)}


def compute_spec(name: str, body: Any) -> ComputeSpec:
    """The compute that a body or resource describes."""
    return loaded(ComputeSpec, COMPUTE, body, {"name": name})


def compute_resource(compute: Compute, context: Context) -> Json:
    """Nothing runs between jobs, so a compute has no instance now."""
    spec = compute.spec
    body = dumped(COMPUTE, spec, full=True)
    body["properties"] |= {
        "provisioningState": "Succeeded",
        "computeLocation": context.location,
        "createdOn": timestamp(compute.created_at),
        "modifiedOn": timestamp(compute.updated_at),
        "isAttachedCompute": False,
    }
    body["properties"]["properties"] |= {
        "allocationState": "Steady",
        "currentNodeCount": 0,
        "targetNodeCount": 0,
    }
    identifier = context.container_id("computes", spec.name)
    about = envelope(identifier, spec.name, "computes", compute)
    return {**about, "location": context.location, **body}


# --- workspaces --------------------------------------------------------------------------------


def workspace_resource(context: Context, url: str, tenant_id: str) -> Json:
    """The workspace itself: it exists as soon as it is addressed, as the tenant of its things."""
    return {
        "id": context.workspace_id,
        "name": context.workspace,
        "type": WORKSPACE_TYPE,
        "location": context.location,
        "kind": "Default",
        "tags": {},
        "identity": {"type": "SystemAssigned", "tenantId": tenant_id},
        "properties": {
            "friendlyName": context.workspace,
            "description": "",
            "workspaceId": context.workspace,
            "tenantId": tenant_id,
            "discoveryUrl": f"{url}/discovery",
            "storageAccount": storage_account_id(context),
            "publicNetworkAccess": "Enabled",
            "storageHnsEnabled": False,
            "v1LegacyMode": False,
            "hbiWorkspace": False,
            "provisioningState": "Succeeded",
        },
        "systemData": {"createdAt": timestamp(0), "lastModifiedAt": timestamp(0)},
        "sku": {"name": "Basic", "tier": "Basic"},
    }


def storage_account_id(context: Context) -> str:
    """Azure names the account behind the built-in datastores; ours has the workspace's name."""
    group, _, _ = context.workspace_id.partition("/providers/")
    return f"{group}/providers/Microsoft.Storage/storageAccounts/{context.workspace}"


# What clients look for in the discovery document: all of it is this one gateway.
_SERVICES = (
    "api",
    "catalog",
    "executions",
    "experimentation",
    "export",
    "history",
    "hyperdrive",
    "labeling",
    "metrics",
    "mlflow",
    "modelmanagement",
    "modelregistry",
    "notebooks",
    "pipelines",
    "studio",
)


def discovery(url: str) -> Json:
    """Base addresses of the services that Azure has and we have in one."""
    return dict.fromkeys(_SERVICES, url)
