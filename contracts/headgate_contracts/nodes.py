"""Nodes: what works on batch jobs. The batch service orders them, the provisioner runs them.

A node is one instance of a deployment's environment with a number of processes, each of which has
the script loaded. It works for one job. After it the instance may stay as an idle node, under an id
of its own, and become a node of the next job without being started anew.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import subjects
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.errors import WireError
from headgate_contracts.jobs import JobSettings
from headgate_contracts.resources import CodeSpec, EnvironmentSpec, ModelSpec


class Place(Value):
    """Where files lie: ``path`` in our own store, in that of ``url``, or in a datastore's.

    With neither ``url`` nor ``datastore`` it is our own store. An https ``url`` alone is one file.
    """

    path: str = ""
    url: str = ""
    workspace: str = ""
    datastore: str = ""

    @property
    def is_web(self) -> bool:
        return self.url.startswith(("https://", "http://"))


class NodeSpec(Value):
    """Everything that a node needs; nothing is looked up later, whatever is deleted meanwhile.

    ``kind`` is a digest of what its instance is made of: an idle one serves jobs of its own kind.
    """

    id: str
    job: str
    job_name: str
    workspace: str
    deployment: BatchDeploymentSpec
    code: CodeSpec | None = None
    model: ModelSpec | None = None
    environment: EnvironmentSpec | None = None
    settings: JobSettings
    input: Place
    parts: str = Field(description="key in the store below which results wait")
    logs: str = Field(description="key in the store below which log files go")
    instance_type: str = ""
    is_low_priority: bool = False
    compute: str = Field("", description="without one a node ends with its job")
    kind: str = ""


NodeState = Literal["preparing", "starting", "running", "idle", "stopping", "ended"]
IDLE = "idle"
"""Stands for the job of nodes that have none; no job has this id."""


class Node(Value):
    """A node as the provisioner knows it. ``error`` says why it ended, or why it cannot work.

    ``job_name`` is empty while it is idle; ``endpoint`` and ``deployment`` are what it is made of.
    ``was_ready``: one of its processes has had the script loaded. An idle node is one since
    ``started_at``.
    """

    id: str
    job: str
    workspace: str = ""
    state: NodeState
    processes: int = 0
    was_ready: bool = False
    started_at: float = 0.0
    ended_at: float | None = None
    error: WireError | None = None
    compute: str = ""
    kind: str = ""
    job_name: str = ""
    endpoint: str = ""
    deployment: str = ""


class StartNode(Command):
    """Start a node, unless there is one of this id; of the idle node ``idle``, if it still is."""

    TYPE: ClassVar[str] = "headgate.provisioner.command.v1.start_node"

    node: NodeSpec
    idle: str = ""


class ReleaseNode(Command):
    """Take a node from its job after ``grace_s`` seconds for what runs.

    If all of that has ended then, an idle node takes its place; else it ends. It is forgotten.
    """

    TYPE: ClassVar[str] = "headgate.provisioner.command.v1.release_node"

    node: str
    grace_s: float = Field(10.0, ge=0, le=3_600)


class StopNode(Command):
    """End a node after ``grace_s`` seconds for what runs, and forget it once it has ended."""

    TYPE: ClassVar[str] = "headgate.provisioner.command.v1.stop_node"

    node: str
    grace_s: float = Field(10.0, ge=0, le=3_600)


class ListNodes(Query):
    """Every node that runs, or has ended and was not stopped since."""

    TYPE: ClassVar[str] = "headgate.provisioner.query.v1.list_nodes"


class NodesReply(Reply):
    TYPE: ClassVar[str] = "headgate.provisioner.reply.v1.nodes"

    nodes: tuple[Node, ...]


class NodeEvent(Event):
    """Base of events about one node. ``job`` is the id of its job, ``job_name`` the name.

    An idle node tells of itself as if ``job`` were "idle", with its compute in ``job_name``.
    """

    WHAT: ClassVar[str] = ""

    workspace: str
    job: str
    node: str
    job_name: str = ""
    endpoint: str = ""
    deployment: str = ""

    def subject(self) -> str:
        return subjects.event("node", f"{self.job}.{self.node}", self.WHAT)


class NodeStarted(NodeEvent):
    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.node_started"
    WHAT: ClassVar[str] = "started"

    instance_type: str = ""


class NodeReady(NodeEvent):
    """The first of its processes has the script loaded."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.node_ready"
    WHAT: ClassVar[str] = "ready"


class NodeEnded(NodeEvent):
    """``alive_s`` is how long it was there since it had started: what it costs."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.node_ended"
    WHAT: ClassVar[str] = "ended"

    alive_s: float
    instance_type: str = ""
    error: WireError | None = None
