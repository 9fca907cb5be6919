"""Where data lies and what works on it: datastores, computes, workspaces.

The registry keeps them. A datastore's secret crosses the bus in :class:`PutDatastore` and in the
answer to :class:`GetDatastoreSecret` and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.resources import Description, Resource, Tags

PageSize = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)

# Azure's own, which every workspace has; a container of the same name lies behind each.
DEFAULT_DATASTORE = "workspaceblobstore"
BUILT_IN_DATASTORES: dict[str, str] = {
    DEFAULT_DATASTORE: "What clients upload: models, data, code.",
    "workspaceartifactstore": "What jobs leave behind: outputs and logs.",
    "workspaceworkingdirectory": "Working files of jobs.",
}


class RemovedReply(Reply):
    """``existed`` is false when there was nothing to remove."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.removed"

    existed: bool


# --- datastores --------------------------------------------------------------------------------

DatastoreName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="1 to 63 letters, digits, '_' and '-', a letter or digit first",
    ),
]
HostPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:/_-]{0,254}$")]
OptionalHostPart = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9.:/_-]{0,254})?$")]
ShortText = Annotated[str, Field(max_length=limits.TAG_CHARS_MAX)]


class DatastoreCredentials(Value):
    """How a datastore is opened, without the secret itself.

    Buckets of S3 have an ``access_key``, those of GCS a ``service_account``, whose secret is the
    key file that Google gives (JSON), web servers none, and containers of Azure the others.
    """

    type: Literal[
        "none", "account_key", "sas", "service_principal", "access_key", "service_account"
    ] = "none"
    access_key_id: ShortText = ""
    tenant_id: ShortText = ""
    client_id: ShortText = ""
    authority_url: ShortText = ""
    resource_url: ShortText = ""


class DatastoreSpec(Value):
    """A container of blobs in somebody's storage account, a bucket of S3 or GCS, a web server.

    A bucket has no account, and one of S3 a region; its ``endpoint`` is a server's host and port,
    by default that of the region, or Google's. A web server is only read: its ``container_name`` is
    host, port and path of the folder that the datastore's paths lie in.
    """

    name: DatastoreName
    type: Literal["azure_blob", "s3", "gcs", "http"] = "azure_blob"
    account_name: OptionalHostPart = ""
    container_name: HostPart
    endpoint: OptionalHostPart = "core.windows.net"
    protocol: Literal["https", "http"] = "https"
    region: ShortText = ""
    credentials: DatastoreCredentials = DatastoreCredentials()
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_types(cls, given: Any) -> Any:
        kind = given.get("type", "azure_blob") if isinstance(given, dict) else "azure_blob"
        if kind == "azure_blob":
            return given
        return {"endpoint": "", "region": "us-east-1" if kind == "s3" else "", **given}


class Datastore(Resource):
    spec: DatastoreSpec
    is_default: bool = False
    is_built_in: bool = False


class PutDatastore(Command):
    """Create or replace a datastore. Without ``secret`` the stored one is kept."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_datastore"

    workspace: str
    spec: DatastoreSpec
    secret: str = Field("", max_length=limits.SECRET_CHARS_MAX, repr=False)
    create_only: bool = False
    if_revision: int | None = None


class DeleteDatastore(Command):
    """Forget a datastore; what lies in it stays."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_datastore"

    workspace: str
    name: str
    if_revision: int | None = None


class GetDatastore(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_datastore"

    workspace: str
    name: str


class ListDatastores(Query):
    """Datastores in order of their names, after the one named ``after``."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_datastores"

    workspace: str
    after: str = ""
    limit: int = PageSize


class DatastoreReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.datastore"

    datastore: Datastore
    created: bool = False


class DatastoresReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.datastores"

    datastores: tuple[Datastore, ...]
    after: str = ""


class GetDatastoreSecret(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_datastore_secret"

    workspace: str
    name: str


class DatastoreSecretReply(Reply):
    """``secret`` is what the kind of credentials needs; empty for a built-in datastore."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.datastore_secret"

    datastore: Datastore
    secret: str = Field("", repr=False)


# --- computes ----------------------------------------------------------------------------------

ComputeName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9-]{1,31}$",
        description="2 to 32 letters, digits and dashes, a letter first",
    ),
]
InstanceCount = Annotated[int, Field(ge=0, le=limits.COMPUTE_INSTANCES_MAX, strict=True)]


class ComputeSpec(Value):
    """A named pool of instances for batch jobs, which grows with work and shrinks without."""

    name: ComputeName
    size: str = Field("Standard_DS3_v2", min_length=1, max_length=limits.TAG_CHARS_MAX)
    min_instances: InstanceCount = 0
    max_instances: Annotated[int, Field(ge=1, le=limits.COMPUTE_INSTANCES_MAX, strict=True)] = 4
    idle_time_before_scale_down: int = Field(
        120, ge=0, le=limits.COMPUTE_IDLE_S_MAX, strict=True, description="seconds"
    )
    tier: Literal["dedicated", "low_priority"] = "dedicated"
    description: Description = ""
    tags: Tags = {}


class Compute(Resource):
    spec: ComputeSpec


class PutCompute(Command):
    """Create or replace a compute."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_compute"

    workspace: str
    spec: ComputeSpec
    create_only: bool = False
    if_revision: int | None = None


class DeleteCompute(Command):
    """Delete a compute. Refused while a batch deployment runs on it."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_compute"

    workspace: str
    name: str
    if_revision: int | None = None


class GetCompute(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_compute"

    workspace: str
    name: str


class ListComputes(Query):
    """Computes in order of their names, after the one named ``after``."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_computes"

    workspace: str
    after: str = ""
    limit: int = PageSize


class ComputeReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.compute"

    compute: Compute
    created: bool = False


class ComputesReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.computes"

    computes: tuple[Compute, ...]
    after: str = ""


# --- workspaces --------------------------------------------------------------------------------


class WorkspaceContents(Value):
    """How much a workspace holds."""

    name: str
    endpoints: int = 0
    assets: int = 0
    others: int = Field(0, description="datastores, computes, batch endpoints and deployments")


class ListWorkspaces(Query):
    """Workspaces that hold something, in order of their names; only ``name`` when it is given."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_workspaces"

    name: str = ""
    after: str = ""
    limit: int = PageSize


class WorkspacesReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.workspaces"

    workspaces: tuple[WorkspaceContents, ...]
    after: str = ""


# --- events ------------------------------------------------------------------------------------


class ThingEvent(Event):
    """Base of events about a datastore or compute."""

    KIND: ClassVar[str] = ""
    WHAT: ClassVar[str] = ""

    workspace: str
    name: str
    revision: int = 0

    def subject(self) -> str:
        return subjects.event(self.KIND, subjects.tamed(self.name), self.WHAT)


class DatastoreCreated(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.datastore_created"
    KIND: ClassVar[str] = "datastore"
    WHAT: ClassVar[str] = "created"


class DatastoreUpdated(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.datastore_updated"
    KIND: ClassVar[str] = "datastore"
    WHAT: ClassVar[str] = "updated"


class DatastoreDeleted(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.datastore_deleted"
    KIND: ClassVar[str] = "datastore"
    WHAT: ClassVar[str] = "deleted"


class ComputeCreated(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.compute_created"
    KIND: ClassVar[str] = "compute"
    WHAT: ClassVar[str] = "created"


class ComputeUpdated(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.compute_updated"
    KIND: ClassVar[str] = "compute"
    WHAT: ClassVar[str] = "updated"


class ComputeDeleted(ThingEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.compute_deleted"
    KIND: ClassVar[str] = "compute"
    WHAT: ClassVar[str] = "deleted"
