"""What the registry hears, answers and says.

Every type's operation and subject follow from its tag, see :mod:`headgate_contracts.rpc`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.assets import AssetKind, Data, View
from headgate_contracts.envelope import Command, Event, Query, Reply
from headgate_contracts.errors import WireError
from headgate_contracts.resources import (
    Code,
    CodeSpec,
    Deployment,
    DeploymentSpec,
    Endpoint,
    EndpointKeys,
    EndpointSpec,
    Environment,
    EnvironmentSpec,
    KeyType,
    Model,
    ModelSpec,
    Operation,
)

SERVICE = "registry"
PageSize = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)

# --- endpoints ---------------------------------------------------------------------------------


class PutEndpoint(Command):
    """Create or replace an endpoint. ``keys`` count at creation only."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_endpoint"

    workspace: str
    spec: EndpointSpec
    keys: EndpointKeys | None = None
    create_only: bool = Field(False, description="refuse with ResourceAlreadyExists if it exists")
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class DeleteEndpoint(Command):
    """Delete an endpoint and, with it, its deployments."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_endpoint"

    workspace: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class GetEndpoint(Query):
    """An endpoint; services that know its name alone leave ``workspace`` empty."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_endpoint"

    workspace: str
    name: str


class ListEndpoints(Query):
    """Endpoints in order of their names, after the one named ``after``."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_endpoints"

    workspace: str
    after: str = ""
    limit: int = PageSize


class EndpointReply(Reply):
    """``operation`` is present after a command."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.endpoint"

    endpoint: Endpoint
    operation: Operation | None = None
    created: bool = False


class EndpointsReply(Reply):
    """``after`` is the cursor of the next page, empty on the last."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.endpoints"

    endpoints: tuple[Endpoint, ...]
    after: str = ""


class ListKeys(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_keys"

    workspace: str
    endpoint: str


class RegenerateKey(Command):
    """Make a new key. A ``value`` equal to the current key is ignored, as clients send it back."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.regenerate_key"

    workspace: str
    endpoint: str
    key_type: KeyType = KeyType.PRIMARY
    value: str = ""


class KeysReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.keys"

    keys: EndpointKeys


# --- deployments -------------------------------------------------------------------------------


class PutDeployment(Command):
    """Create or replace a deployment of an existing endpoint."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_deployment"

    workspace: str
    spec: DeploymentSpec
    create_only: bool = False
    if_revision: int | None = None


class DeleteDeployment(Command):
    """Delete a deployment. Refused while it has live traffic."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_deployment"

    workspace: str
    endpoint: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class GetDeployment(Query):
    """A deployment; services that know the names alone leave ``workspace`` empty."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_deployment"

    workspace: str
    endpoint: str
    name: str


class ListDeployments(Query):
    """Deployments of one endpoint, or of all (empty ``workspace`` and ``endpoint``).

    In order of ``<endpoint>/<name>``, after the one given so; all of them when ``limit`` is 0.
    """

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_deployments"

    workspace: str = ""
    endpoint: str = ""
    after: str = ""
    limit: int = Field(0, ge=0, le=limits.PAGE_SIZE_MAX)


class DeploymentReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.deployment"

    deployment: Deployment
    operation: Operation | None = None
    created: bool = False


class DeploymentsReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.deployments"

    deployments: tuple[Deployment, ...]
    after: str = ""


class ReportDeployment(Command):
    """The provisioner's word on a deployment. Ignored when ``generation`` is not the current one.

    ``outcome``: ``progressing`` (only figures change), ``succeeded`` (all wanted instances are
    ready), ``failed`` (``error`` says why), ``gone`` (a deployment being deleted has no instance
    left and its row may go).
    """

    TYPE: ClassVar[str] = "headgate.registry.command.v1.report_deployment"

    workspace: str
    endpoint: str
    name: str
    generation: int
    outcome: Literal["progressing", "succeeded", "failed", "gone"]
    ready_instances: int = 0
    percent_complete: float = 0.0
    error: WireError | None = None


# --- assets ------------------------------------------------------------------------------------


class PutModel(Command):
    """Register a model version. Versions never change: the same content again is accepted."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_model"

    workspace: str
    spec: ModelSpec
    is_archived: bool | None = None


class PutEnvironment(Command):
    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_environment"

    workspace: str
    spec: EnvironmentSpec
    is_archived: bool | None = None


class PutCode(Command):
    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_code"

    workspace: str
    spec: CodeSpec
    is_archived: bool | None = None


class GetAsset(Query):
    """One asset version; ``version`` may be a label such as ``@latest``, or empty for the same."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_asset"

    workspace: str
    kind: AssetKind
    name: str
    version: str = "@latest"


class ListAssets(Query):
    """Newest version of each name, or all versions of ``name``, newest first."""

    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_assets"

    workspace: str
    kind: AssetKind
    name: str = ""
    sha256: str = Field("", description="only code versions with this content hash")
    view: View = "active"
    after: str = Field("", description="cursor of the answer before")
    limit: int = PageSize


class AssetReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.asset"

    model: Model | None = None
    environment: Environment | None = None
    code: Code | None = None
    data: Data | None = None
    created: bool = False


class AssetsReply(Reply):
    TYPE: ClassVar[str] = "headgate.registry.reply.v1.assets"

    models: tuple[Model, ...] = ()
    environments: tuple[Environment, ...] = ()
    codes: tuple[Code, ...] = ()
    data: tuple[Data, ...] = ()
    after: str = ""


class GetOperation(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.get_operation"

    workspace: str
    operation_id: str


class OperationReply(Reply):
    """``operation`` is absent after a delete that had nothing to delete."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.operation"

    operation: Operation | None = None


# --- events ------------------------------------------------------------------------------------


class EndpointEvent(Event):
    """Base of events about an endpoint; ``WHAT`` is the last token of the subject."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    revision: int = 0

    def subject(self) -> str:
        return subjects.event("endpoint", self.endpoint, self.WHAT)


class EndpointCreated(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.endpoint_created"
    WHAT: ClassVar[str] = "created"


class EndpointUpdated(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.endpoint_updated"
    WHAT: ClassVar[str] = "updated"

    fields: tuple[str, ...] = Field((), description="names of the fields that changed")


class TrafficChanged(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.traffic_changed"
    WHAT: ClassVar[str] = "traffic_changed"

    traffic: dict[str, int] = {}
    mirror_traffic: dict[str, int] = {}


class KeyRegenerated(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.key_regenerated"
    WHAT: ClassVar[str] = "key_regenerated"

    key_type: KeyType


class EndpointDeleting(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.endpoint_deleting"
    WHAT: ClassVar[str] = "deleting"


class EndpointDeleted(EndpointEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.endpoint_deleted"
    WHAT: ClassVar[str] = "deleted"


class DeploymentEvent(Event):
    """Base of events about a deployment."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    deployment: str
    revision: int = 0

    def subject(self) -> str:
        return subjects.event("deployment", f"{self.endpoint}.{self.deployment}", self.WHAT)


class DeploymentCreated(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_created"
    WHAT: ClassVar[str] = "created"

    instance_count: int


class DeploymentUpdated(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_updated"
    WHAT: ClassVar[str] = "updated"

    fields: tuple[str, ...] = ()
    instance_count: int


class DeploymentSucceeded(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_succeeded"
    WHAT: ClassVar[str] = "succeeded"

    ready_instances: int


class DeploymentFailed(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_failed"
    WHAT: ClassVar[str] = "failed"

    error: WireError


class DeploymentDeleting(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_deleting"
    WHAT: ClassVar[str] = "deleting"


class DeploymentDeleted(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_deleted"
    WHAT: ClassVar[str] = "deleted"
