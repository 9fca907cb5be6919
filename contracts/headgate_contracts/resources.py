"""The nouns: endpoints, deployments, models, environments, code, operations.

Field names and defaults are those of Azure's YAML files (snake_case); the REST edge translates to
ARM's camelCase. A ``*Spec`` is what a user asked for; the resource around it adds what the system
knows. References between resources are strings ``azureml:<name>:<version>``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from headgate_contracts import limits
from headgate_contracts.collection import DataCollector
from headgate_contracts.envelope import Value
from headgate_contracts.errors import WireError


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > limits.TAGS_MAX:
        raise ValueError(f"at most {limits.TAGS_MAX} entries are allowed, not {len(tags)}")
    for key, value in tags.items():
        if len(key) + len(value) > limits.TAG_CHARS_MAX:
            raise ValueError(f"entry {key[:40]!r} is longer than {limits.TAG_CHARS_MAX} characters")
    return tags


def _check_variables(variables: dict[str, str]) -> dict[str, str]:
    if len(variables) > limits.ENVIRONMENT_VARIABLES_MAX:
        raise ValueError(f"at most {limits.ENVIRONMENT_VARIABLES_MAX} variables are allowed")
    for key in variables:
        if not key or "=" in key or "\0" in key or key.startswith("HEADGATE_"):
            raise ValueError(
                f"{key[:40]!r} cannot be a variable name "
                "(not empty, no '=' or NUL, and HEADGATE_ is reserved)"
            )
    return variables


Name = Annotated[
    str,
    Field(
        pattern=limits.NAME_PATTERN,
        min_length=limits.NAME_CHARS_MIN,
        max_length=limits.NAME_CHARS_MAX,
        description=limits.NAME_RULE,
    ),
]
# Of what is looked at or counted, where empty means everything.
OptionalName = Annotated[
    str, Field(pattern=rf"^$|{limits.NAME_PATTERN}", max_length=limits.NAME_CHARS_MAX)
]
AssetName = Annotated[str, Field(pattern=limits.ASSET_NAME_PATTERN)]
# Empty asks for the next number.
AssetVersion = Annotated[str, Field(pattern=rf"^$|{limits.ASSET_VERSION_PATTERN}")]
Tags = Annotated[dict[str, str], AfterValidator(_check_tags)]
EnvironmentVariables = Annotated[dict[str, str], AfterValidator(_check_variables)]
Description = Annotated[str, Field(max_length=limits.DESCRIPTION_CHARS_MAX)]
Percent = Annotated[int, Field(ge=0, le=100, strict=True)]


class ProvisioningState(StrEnum):
    """The life of an endpoint or deployment, in Azure's words."""

    CREATING = "Creating"
    UPDATING = "Updating"
    SCALING = "Scaling"
    DELETING = "Deleting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def is_final(self) -> bool:
        return self in (self.SUCCEEDED, self.FAILED, self.CANCELED)


class OperationStatus(StrEnum):
    """The life of a long-running operation, in Azure's words."""

    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


class AuthMode(StrEnum):
    KEY = "key"
    AML_TOKEN = "aml_token"
    AAD_TOKEN = "aad_token"


class KeyType(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class Identity(Value):
    type: Literal["system_assigned", "user_assigned", "none"] = "system_assigned"
    user_assigned_identities: tuple[dict[str, str] | str, ...] = ()


class EndpointSpec(Value):
    """An online endpoint as its YAML file says (azure.md 1.1)."""

    name: Name
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    auth_mode: AuthMode = AuthMode.KEY
    compute: str | None = None
    identity: Identity | None = None
    traffic: dict[str, Percent] = {}
    mirror_traffic: dict[str, Percent] = {}
    public_network_access: Literal["enabled", "disabled"] = "enabled"


class CodeConfiguration(Value):
    code: str
    scoring_script: str = Field(min_length=1)


class RequestSettings(Value):
    """How requests reach an instance (azure.md 1.3)."""

    request_timeout_ms: int = Field(
        limits.REQUEST_TIMEOUT_MS_DEFAULT, ge=1, le=limits.REQUEST_TIMEOUT_MS_MAX
    )
    max_concurrent_requests_per_instance: int = Field(
        1, ge=1, le=limits.CONCURRENCY_PER_INSTANCE_MAX
    )
    max_queue_wait_ms: int = Field(500, ge=0, le=limits.REQUEST_TIMEOUT_MS_MAX)


class Batching(Value):
    """How requests share calls of the model. Headgate's own; Azure has nothing like it."""

    max_rows: int = Field(
        limits.BATCHING_ROWS_DEFAULT,
        ge=1,
        le=limits.BATCHING_ROWS_MAX,
        description="rows of a batch; a request is one row unless the script counts them",
    )
    max_wait_ms: int = Field(
        0,
        ge=0,
        le=limits.BATCHING_WAIT_MS_MAX,
        description="how long an idle model waits for a batch to fill; 0: it starts at once",
    )


class Probe(Value):
    """When an instance counts as alive or ready (azure.md 1.4); times in seconds."""

    initial_delay: int = Field(10, ge=1)
    period: int = Field(10, ge=1)
    timeout: int = Field(2, ge=1)
    success_threshold: int = Field(1, ge=1)
    failure_threshold: int = Field(30, ge=1)

    @property
    def budget_s(self) -> int:
        """How long an instance may take to come up before it counts as failed."""
        return self.initial_delay + self.period * self.failure_threshold


class ScaleSettings(Value):
    """How many instances (azure.md 1.2). With ``target_utilization`` the number follows the load.

    Then an instance should have ``target_concurrency`` requests in hand (default:
    ``target_utilization_percentage`` of ``max_concurrent_requests_per_instance``), on average over
    ``stable_window`` seconds. ``min_instances`` 0 means none without load. The rest is Knative's
    and has its defaults (:mod:`headgate.autoscaler.target`); times in seconds.
    """

    type: Literal["default", "target_utilization"] = "default"
    min_instances: int | None = Field(None, ge=0, le=limits.INSTANCES_PER_DEPLOYMENT_MAX)
    max_instances: int | None = Field(None, ge=1, le=limits.INSTANCES_PER_DEPLOYMENT_MAX)
    target_utilization_percentage: int | None = Field(None, ge=1, le=100)
    polling_interval: int | None = Field(None, ge=1)
    target_concurrency: float | None = Field(None, gt=0, le=limits.CONCURRENCY_PER_INSTANCE_MAX)
    stable_window: int | None = Field(None, ge=6, le=3_600)
    panic_window_percentage: int | None = Field(None, ge=1, le=100)
    panic_threshold_percentage: int | None = Field(None, ge=110, le=1_000)
    scale_down_delay: int | None = Field(None, ge=0, le=3_600)
    scale_to_zero_grace: int | None = Field(None, ge=0, le=86_400)
    max_held_requests: int | None = Field(None, ge=1, le=limits.HELD_REQUESTS_MAX)

    @property
    def follows_load(self) -> bool:
        return self.type == "target_utilization"

    @property
    def least(self) -> int:
        """Azure's default is 1."""
        return 1 if self.min_instances is None else self.min_instances

    @property
    def most(self) -> int:
        """Azure's default is 1; never below ``least``."""
        return max(1 if self.max_instances is None else self.max_instances, self.least)


class InferenceRoute(Value):
    path: str = Field(pattern=r"^/")
    port: int = Field(ge=1, le=65_535)


class InferenceConfig(Value):
    liveness_route: InferenceRoute | None = None
    readiness_route: InferenceRoute | None = None
    startup_route: InferenceRoute | None = None
    scoring_route: InferenceRoute | None = None


class DeploymentSpec(Value):
    """A managed online deployment as its YAML file says (azure.md 1.2), references resolved."""

    name: Name
    endpoint_name: Name
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    model: str | None = None
    model_mount_path: str | None = None
    code_configuration: CodeConfiguration | None = None
    environment: str | None = None
    environment_variables: EnvironmentVariables = {}
    instance_type: str = "Standard_F4s_v2"
    instance_count: int = Field(1, ge=0, le=limits.INSTANCES_PER_DEPLOYMENT_MAX)
    app_insights_enabled: bool = False
    scale_settings: ScaleSettings = ScaleSettings()
    request_settings: RequestSettings = RequestSettings()
    batching: Batching | None = None
    liveness_probe: Probe = Probe()
    readiness_probe: Probe = Probe()
    startup_probe: Probe | None = None
    data_collector: DataCollector | None = None
    egress_public_network_access: Literal["enabled", "disabled"] = "enabled"

    @property
    def variables(self) -> dict[str, str]:
        """What the worker finds in its environment: the user's variables, and the batching."""
        if self.batching is None:
            return dict(self.environment_variables)
        return {
            **self.environment_variables,
            "BATCH_MAX_ROWS": str(self.batching.max_rows),
            "BATCH_MAX_WAIT_MS": str(self.batching.max_wait_ms),
        }


class ModelSpec(Value):
    """One version of a model. ``path`` is a key in the object store (file or folder)."""

    name: AssetName
    version: AssetVersion = ""
    path: str
    type: Literal["custom_model", "mlflow_model", "triton_model"] = "custom_model"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    stage: str = Field("", max_length=limits.TAG_CHARS_MAX)
    is_anonymous: bool = False


class EnvironmentBuild(Value):
    path: str
    dockerfile_path: str = "Dockerfile"


class EnvironmentSpec(Value):
    """One version of an environment. ``conda_file`` is the *text* of the file."""

    name: AssetName
    version: AssetVersion = ""
    image: str | None = None
    conda_file: str | None = None
    build: EnvironmentBuild | None = None
    inference_config: InferenceConfig | None = None
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    is_anonymous: bool = False


class CodeSpec(Value):
    """One version of a code folder. ``path`` is a key prefix in the object store."""

    name: AssetName
    version: AssetVersion = ""
    path: str
    sha256: str = ""
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    is_anonymous: bool = False


class Resource(Value):
    """What every stored resource carries. ``revision`` grows with every change."""

    workspace: str
    revision: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    created_by: str = ""
    updated_by: str = ""


class Endpoint(Resource):
    spec: EndpointSpec
    provisioning_state: ProvisioningState = ProvisioningState.SUCCEEDED


class Deployment(Resource):
    """``generation`` grows when the spec changes; status reports name the one they speak of.

    ``is_stopped`` is no part of the spec: who replaces a stopped deployment does not start it.
    ``environment_build`` names the build of its environment that a refresh gave it; empty: the
    one that it was created with.
    """

    spec: DeploymentSpec
    generation: int = 1
    is_stopped: bool = False
    environment_build: str = ""
    provisioning_state: ProvisioningState = ProvisioningState.CREATING
    ready_instances: int = 0
    error: WireError | None = None


class AssetResource(Resource):
    """What every version of an asset carries: an archived one is hidden from lists."""

    is_archived: bool = False


class Model(AssetResource):
    spec: ModelSpec


class Environment(AssetResource):
    spec: EnvironmentSpec


class Code(AssetResource):
    spec: CodeSpec


class Operation(Value):
    """A long-running operation on one resource. Times are Unix seconds."""

    id: str
    workspace: str
    kind: Literal["create", "update", "delete"]
    resource: str = Field(description="endpoints/<endpoint>[/deployments/<deployment>]")
    status: OperationStatus = OperationStatus.IN_PROGRESS
    started_at: float = 0.0
    ended_at: float | None = None
    percent_complete: float = 0.0
    error: WireError | None = None


class EndpointKeys(Value):
    primary_key: str
    secondary_key: str
