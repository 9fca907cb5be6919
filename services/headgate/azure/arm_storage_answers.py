"""JSON Schemas of answers about data, datastores, computes and workspaces."""

from __future__ import annotations

from headgate.azure import arm_answers, arm_data, arm_storage
from headgate.azure.arm_answers import COUNT, TEXT, TEXTS, TIME, URL, plain, resource
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import LOCATION
from headgate_contracts import assets, storage

_FLAG: Json = {"type": "boolean"}
_DONE: Json = {"const": "Succeeded"}

DATA = resource(
    "DataVersion",
    arm_data.DATA,
    assets.DataSpec,
    {},
    {"isArchived": _FLAG, "provisioningState": _DONE},
)
DATASTORE = resource(
    "Datastore",
    arm_storage.DATASTORE,
    storage.DatastoreSpec,
    {},
    {
        "isDefault": _FLAG,
        "serviceDataAccessAuthIdentity": TEXT,
        "subscriptionId": TEXT,
        "resourceGroup": TEXT,
    },
)
SECRETS = plain(
    "DatastoreSecrets",
    optional=("key", "sasToken", "clientSecret", "secretAccessKey", "serviceAccountKey"),
    secretsType={
        "enum": ["None", "AccountKey", "Sas", "ServicePrincipal", "AccessKey", "ServiceAccount"]
    },
    key=TEXT,
    sasToken=TEXT,
    clientSecret=TEXT,
    secretAccessKey=TEXT,
    serviceAccountKey=TEXT,
)
COMPUTE = resource(
    "Compute",
    arm_storage.COMPUTE,
    storage.ComputeSpec,
    {"location": {"type": "string", "const": LOCATION}},
    {
        "provisioningState": _DONE,
        "computeLocation": TEXT,
        "createdOn": TIME,
        "modifiedOn": TIME,
        "isAttachedCompute": _FLAG,
    },
)
COMPUTE["properties"]["properties"]["properties"]["properties"]["properties"] |= {
    "allocationState": TEXT,
    "currentNodeCount": COUNT,
    "targetNodeCount": COUNT,
}
WORKSPACE = plain(
    "Workspace",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    location=TEXT,
    kind=TEXT,
    tags=TEXTS,
    identity=plain(type=TEXT, tenantId=TEXT),
    properties=plain(
        friendlyName=TEXT,
        description=TEXT,
        workspaceId=TEXT,
        tenantId=TEXT,
        discoveryUrl=URL,
        storageAccount=TEXT,
        publicNetworkAccess=TEXT,
        storageHnsEnabled=_FLAG,
        v1LegacyMode=_FLAG,
        hbiWorkspace=_FLAG,
        provisioningState=_DONE,
    ),
    systemData=arm_answers.CONTAINER["properties"]["systemData"],
    sku=plain(name=TEXT, tier=TEXT),
)
DISCOVERY: Json = {"type": "object", "additionalProperties": URL}
