"""Nodes: what works on batch jobs. The batch service orders them, the provisioner runs them.

A node is one instance of a deployment's environment with a number of processes, each of which has
the script loaded. It belongs to one job.
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
    """Everything that a node needs; nothing is looked up later, whatever is deleted meanwhile."""

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


NodeState = Literal["preparing", "starting", "running", "stopping", "ended"]


class Node(Value):
    """A node as the provisioner knows it. ``error`` says why it ended, or why it cannot work.

    ``was_ready``: one of its processes has had the script loaded.
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


class StartNode(Command):
    """Start a node, unless there is one of this id."""

    TYPE: ClassVar[str] = "headgate.provisioner.command.v1.start_node"

    node: NodeSpec


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
    """Base of events about one node. ``job`` is the id of its job, ``job_name`` the name."""

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
