"""Nodes of batch jobs on the wire: all of a workspace, and in Azure's words those of a compute."""

from __future__ import annotations

from headgate.azure.arm_answers import COUNT, ERROR, TEXT, TIME, plain
from headgate.azure.arm_fields import Json
from headgate.azure.arm_resources import error_body, timestamp
from headgate_contracts.nodes import Node, NodeState

_AZURE_STATES: dict[NodeState, str] = {
    "preparing": "preparing",
    "starting": "preparing",
    "running": "running",
    "idle": "idle",
    "stopping": "leaving",
}
NODE = plain(
    "Node",
    optional=("error",),
    id=TEXT,
    state=TEXT,
    compute=TEXT,
    job=TEXT,
    endpoint=TEXT,
    deployment=TEXT,
    processes=COUNT,
    startedAt=TIME,
    error=ERROR["properties"]["error"],
)
_OF_COMPUTE = plain("ComputeNode", nodeId=TEXT, nodeState=TEXT, runId=TEXT)
OF_COMPUTE = plain(nodes={"type": "array", "items": _OF_COMPUTE})


def node_resource(node: Node) -> Json:
    """A node with the name of its job, empty while it is idle. Ours: Azure's list says less."""
    told: Json = {
        "id": node.id,
        "state": node.state,
        "compute": node.compute,
        "job": node.job_name,
        "endpoint": node.endpoint,
        "deployment": node.deployment,
        "processes": node.processes,
        "startedAt": timestamp(node.started_at),
    }
    if node.error is not None:
        told["error"] = error_body(node.error)["error"]
    return told


def compute_nodes(nodes: list[Node]) -> Json:
    """Azure's list: what has ended is in it no more."""
    return {
        "nodes": [
            {"nodeId": node.id, "nodeState": state, "runId": node.job_name}
            for node in nodes
            if (state := _AZURE_STATES.get(node.state))
        ]
    }
