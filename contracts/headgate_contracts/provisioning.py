"""What the provisioner answers and says."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Event, Query, Reply, Value
from headgate_contracts.errors import WireError

SERVICE = "provisioner"
_ROUNDING = 1e-6  # of cores, which are no whole numbers


class CollectionCounts(Value):
    """Events of an instance's data collection since it started.

    ``shipped`` are in the store, ``dropped`` will never be; ``failed`` attempts are repeated.
    """

    collected: int = 0
    shipped: int = 0
    dropped: int = 0
    failed: int = 0


class Instance(Value):
    """One running (or wanted) copy of a deployment's model, as the provisioner knows it."""

    id: str
    endpoint: str
    deployment: str
    spec: str = Field(description="hash of the deployment version it runs")
    state: str = Field(description="headgate_contracts.scoring.InstanceState, or 'pending'")
    pid: int = 0
    restarts: int = 0
    liveness_failures: int = Field(0, description="failed probes in a row")
    readiness_failures: int = Field(0, description="failed probes in a row")
    started_at: float = 0.0
    ready_at: float | None = None
    error: WireError | None = None
    collection: CollectionCounts | None = None


class ListInstances(Query):
    """Instances of one deployment, of one endpoint, or of all (empty names)."""

    TYPE: ClassVar[str] = "headgate.provisioner.query.v1.list_instances"

    endpoint: str = ""
    deployment: str = ""


class InstancesReply(Reply):
    TYPE: ClassVar[str] = "headgate.provisioner.reply.v1.instances"

    instances: tuple[Instance, ...]


class Amounts(Value):
    """Cores, memory and GPUs."""

    cores: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    gpus: int = Field(ge=0)

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            cores=self.cores + other.cores,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            gpus=self.gpus + other.gpus,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        """What is left, and never less than nothing."""
        return Amounts(
            cores=max(0.0, self.cores - other.cores),
            memory_bytes=max(0, self.memory_bytes - other.memory_bytes),
            gpus=max(0, self.gpus - other.gpus),
        )

    def fits(self, free: Amounts) -> bool:
        """Whether all of it is there."""
        return (
            self.cores <= free.cores + _ROUNDING
            and self.memory_bytes <= free.memory_bytes
            and self.gpus <= free.gpus
        )


class GetCapacity(Query):
    """What instances may use of the host, and how many of a type would fit on it."""

    TYPE: ClassVar[str] = "headgate.provisioner.query.v1.get_capacity"

    instance_type: str = ""


class CapacityReply(Reply):
    """``taken`` is what is counted for instances.

    ``each`` is counted for one of the type that was asked for, of which ``instances_max`` fit.
    """

    TYPE: ClassVar[str] = "headgate.provisioner.reply.v1.capacity"

    total: Amounts
    taken: Amounts
    instances_max: int | None = None
    each: Amounts | None = None


class GetLogs(Query):
    """Log lines of a deployment, oldest first.

    ``cursor`` of an earlier reply asks only for what came since; ``tail`` then bounds the answer.
    ``request_id`` and ``contains`` leave only the lines of one request, and those with a text.
    """

    TYPE: ClassVar[str] = "headgate.provisioner.query.v1.get_logs"

    endpoint: str
    deployment: str
    container: Literal["inference-server", "storage-initializer"] = "inference-server"
    tail: int = Field(limits.LOG_LINES_DEFAULT, ge=1, le=limits.LOG_LINES_MAX)
    cursor: str = ""
    request_id: str = Field("", max_length=limits.CLIENT_REQUEST_ID_CHARS_MAX)
    contains: str = Field("", max_length=limits.LOG_FILTER_CHARS_MAX)


class LogsReply(Reply):
    TYPE: ClassVar[str] = "headgate.provisioner.reply.v1.logs"

    content: str
    cursor: str = ""


class InstanceEvent(Event):
    """Base of events about one instance; its workspace decides who may see them."""

    WHAT: ClassVar[str] = ""

    workspace: str = ""
    endpoint: str
    deployment: str
    instance: str
    spec: str = ""

    def subject(self) -> str:
        return subjects.event(
            "instance", f"{self.endpoint}.{self.deployment}.{self.instance}", self.WHAT
        )


class InstanceStarted(InstanceEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_started"
    WHAT: ClassVar[str] = "started"

    pid: int
    restarts: int = 0
    instance_type: str = ""


class InstanceReady(InstanceEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_ready"
    WHAT: ClassVar[str] = "ready"

    startup_s: float


class InstanceAdopted(InstanceEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_adopted"
    WHAT: ClassVar[str] = "adopted"

    pid: int
    instance_type: str = ""


class InstanceLost(InstanceEvent):
    """The process ended without being asked; ``restart_in_s`` is the back-off before the next."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_lost"
    WHAT: ClassVar[str] = "lost"

    reason: str
    restart_in_s: float | None = None


class InstanceStopped(InstanceEvent):
    """The process ended because it was asked to."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_stopped"
    WHAT: ClassVar[str] = "stopped"


class ProbeFailed(InstanceEvent):
    """Of failures in a row the first is told, and the one that has consequences."""

    failures: int = Field(description="in a row")
    failure_threshold: int
    reason: str


class LivenessProbeFailed(ProbeFailed):
    """At ``failure_threshold`` the instance is killed and replaced."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.liveness_probe_failed"
    WHAT: ClassVar[str] = "liveness_probe_failed"


class ReadinessProbeFailed(ProbeFailed):
    """At ``failure_threshold`` the instance gets no requests until the probe passes again."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.readiness_probe_failed"
    WHAT: ClassVar[str] = "readiness_probe_failed"


class InstanceRecovered(InstanceEvent):
    """The readiness probe passes again."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.instance_recovered"
    WHAT: ClassVar[str] = "recovered"


class CollectionFailing(InstanceEvent):
    """What an instance has collected cannot be put where it belongs; that is tried again."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.collection_failing"
    WHAT: ClassVar[str] = "collection_failing"

    collection: str
    reason: str


class CollectionResumed(InstanceEvent):
    """Collected data reaches its place again."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.collection_resumed"
    WHAT: ClassVar[str] = "collection_resumed"

    collection: str


class EnvironmentEvent(Event):
    """Base of events about the building of an environment."""

    WHAT: ClassVar[str] = ""

    name: str
    version: str
    sha256: str

    def subject(self) -> str:
        return subjects.event("environment", subjects.tamed(self.name), self.WHAT)


class EnvironmentBuilt(EnvironmentEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.environment_built"
    WHAT: ClassVar[str] = "built"

    build_s: float


class EnvironmentBuildFailed(EnvironmentEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.environment_build_failed"
    WHAT: ClassVar[str] = "build_failed"

    reason: str
