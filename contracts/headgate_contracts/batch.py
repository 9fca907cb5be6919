"""Batch endpoints and batch deployments: asynchronous scoring of many files (azure.md 1.6, 1.7).

The registry keeps them. A batch deployment holds no instance: it is a recipe for jobs, so a
change has taken effect as soon as it is stored.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.resources import (
    CodeConfiguration,
    Description,
    EnvironmentVariables,
    Name,
    Operation,
    ProvisioningState,
    Resource,
    Tags,
)

PageSize = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


def _check_file_name(name: str) -> str:
    if name in (".", "..") or any(sign in name for sign in ("/", "\\", "\0")):
        raise ValueError("a file name without a path is expected")
    return name


FileName = Annotated[
    str,
    Field(min_length=1, max_length=limits.FILE_NAME_CHARS_MAX),
    AfterValidator(_check_file_name),
]


class BatchDefaults(Value):
    """``deployment_name`` gets the invocations that name no deployment."""

    deployment_name: Name | None = None


class BatchEndpointSpec(Value):
    """A batch endpoint as its YAML file says. Keys are no way in: a batch job acts for somebody.

    With ``public_network_access`` disabled, jobs come over the bus or from listed networks. Azure's
    clients know no such field, so None means that it stays as it is, which at first is enabled.
    """

    name: Name
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    auth_mode: Literal["aad_token"] = "aad_token"
    defaults: BatchDefaults = BatchDefaults()
    public_network_access: Literal["enabled", "disabled"] | None = None


class RetrySettings(Value):
    """How often a mini-batch is tried again, and how long one try may take in seconds."""

    max_retries: int = Field(3, ge=0, le=limits.BATCH_RETRIES_MAX)
    timeout: int = Field(30, ge=1, le=limits.BATCH_TIMEOUT_S_MAX)


class BatchResources(Value):
    """``instance_count`` nodes work on each job."""

    instance_count: int = Field(1, ge=1, le=limits.INSTANCES_PER_DEPLOYMENT_MAX)
    instance_type: str | None = Field(None, max_length=256)


class BatchDeploymentSpec(Value):
    """A batch deployment of a model, references resolved.

    What newer YAML files keep below ``settings`` stands here by itself, as in older files and in
    the REST API. ``mini_batch_size`` counts files, whatever their size; ``error_threshold`` is how
    many files of a job may fail, with -1 for any number.
    """

    name: Name
    endpoint_name: Name
    type: Literal["model"] = "model"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    model: str | None = None
    code_configuration: CodeConfiguration | None = None
    environment: str | None = None
    environment_variables: EnvironmentVariables = {}
    compute: str | None = Field(None, max_length=256)
    resources: BatchResources = BatchResources()
    max_concurrency_per_instance: int = Field(1, ge=1, le=limits.CONCURRENCY_PER_INSTANCE_MAX)
    mini_batch_size: int = Field(10, ge=1, le=limits.INT32_MAX)
    error_threshold: int = Field(-1, ge=-1, le=limits.INT32_MAX)
    retry_settings: RetrySettings = RetrySettings()
    logging_level: Literal["debug", "info", "warning"] = "info"
    output_action: Literal["append_row", "summary_only"] = "append_row"
    output_file_name: FileName = "predictions.csv"


class BatchEndpoint(Resource):
    spec: BatchEndpointSpec
    provisioning_state: ProvisioningState = ProvisioningState.SUCCEEDED


class BatchDeployment(Resource):
    spec: BatchDeploymentSpec
    provisioning_state: ProvisioningState = ProvisioningState.SUCCEEDED


# --- endpoints ---------------------------------------------------------------------------------


class PutBatchEndpoint(Command):
    """Create or replace a batch endpoint. Its name is unique among online endpoints too."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_batch_endpoint"

    workspace: str
    spec: BatchEndpointSpec
    create_only: bool = Field(False, description="refuse with ResourceAlreadyExists if it exists")
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class DeleteBatchEndpoint(Command):
    """Delete a batch endpoint and, with it, its deployments."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_batch_endpoint"

    workspace: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class GetBatchEndpoint(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_batch_endpoint"

    workspace: str
    name: str


class ListBatchEndpoints(Query):
    """Batch endpoints in order of their names, after the one named ``after``."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_batch_endpoints"

    workspace: str
    after: str = ""
    limit: int = PageSize


class BatchEndpointReply(Reply):
    """``operation`` is present after a command."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.batch_endpoint"

    endpoint: BatchEndpoint
    operation: Operation | None = None
    created: bool = False


class BatchEndpointsReply(Reply):
    """``after`` is the cursor of the next page, empty on the last."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.batch_endpoints"

    endpoints: tuple[BatchEndpoint, ...]
    after: str = ""


# --- deployments -------------------------------------------------------------------------------


class PutBatchDeployment(Command):
    """Create or replace a deployment of an existing batch endpoint."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_batch_deployment"

    workspace: str
    spec: BatchDeploymentSpec
    create_only: bool = False
    if_revision: int | None = None


class DeleteBatchDeployment(Command):
    """Delete a batch deployment. Refused while it is its endpoint's default."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_batch_deployment"

    workspace: str
    endpoint: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class GetBatchDeployment(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_batch_deployment"

    workspace: str
    endpoint: str
    name: str


class ListBatchDeployments(Query):
    """The deployments of one batch endpoint, by name."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_batch_deployments"

    workspace: str
    endpoint: str


class BatchDeploymentReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.batch_deployment"

    deployment: BatchDeployment
    operation: Operation | None = None
    created: bool = False


class BatchDeploymentsReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.batch_deployments"

    deployments: tuple[BatchDeployment, ...]


# --- events ------------------------------------------------------------------------------------


class BatchEndpointEvent(Event):
    """Base of events about a batch endpoint; ``WHAT`` is the last token of the subject."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    revision: int = 0

    def subject(self) -> str:
        return subjects.event("batch_endpoint", self.endpoint, self.WHAT)


class BatchEndpointCreated(BatchEndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_endpoint_created"
    WHAT: ClassVar[str] = "created"


class BatchEndpointUpdated(BatchEndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_endpoint_updated"
    WHAT: ClassVar[str] = "updated"

    fields: tuple[str, ...] = Field((), description="names of the fields that changed")


class BatchEndpointDeleted(BatchEndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_endpoint_deleted"
    WHAT: ClassVar[str] = "deleted"


class BatchDeploymentEvent(Event):
    """Base of events about a batch deployment."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    deployment: str
    revision: int = 0

    def subject(self) -> str:
        return subjects.event("batch_deployment", f"{self.endpoint}.{self.deployment}", self.WHAT)


class BatchDeploymentCreated(BatchDeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_deployment_created"
    WHAT: ClassVar[str] = "created"


class BatchDeploymentUpdated(BatchDeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_deployment_updated"
    WHAT: ClassVar[str] = "updated"

    fields: tuple[str, ...] = ()


class BatchDeploymentDeleted(BatchDeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.batch_deployment_deleted"
    WHAT: ClassVar[str] = "deleted"
