"""Which nodes stay between two jobs, and which of them the next one gets: pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from headgate.batch.records import JobRecord
from headgate_contracts.nodes import Node
from headgate_contracts.storage import ComputeSpec

_KIND_CHARS = 32


def kind_of(job: JobRecord) -> str:
    """A digest of all that an instance of the job's is started with, and cannot change later."""
    document, settings = job.document, job.settings
    parts = (document.deployment, document.code, document.model, document.environment)
    made_of = [
        job.workspace,
        document.compute,
        document.instance_type,
        document.is_low_priority,
        settings.max_concurrency_per_instance,
        settings.logging_level,
        settings.output_action,
        *(part.model_dump(mode="json") if part is not None else None for part in parts),
    ]
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KIND_CHARS]


def stays(node: Node, compute: ComputeSpec | None) -> bool:
    """Whether a node that its job needs no more is to become idle. None: there is no compute."""
    if compute is None or node.state != "running":
        return False
    return compute.idle_time_before_scale_down > 0 or compute.min_instances > 0


def chosen(idle: Sequence[Node], kind: str) -> Node | None:
    """Which idle node a job gets: the last used of its kind, so that the others can end."""
    fitting = [node for node in idle if node.kind == kind]
    return max(fitting, key=_age, default=None)


def oldest(idle: Sequence[Node]) -> Node | None:
    """Which idle node gives way where the machine has no room."""
    return min(idle, key=_age, default=None)


def surplus(idle: Sequence[Node], busy: int, compute: ComputeSpec | None, now: float) -> list[Node]:
    """The idle nodes of a compute that end now. None: there is no such compute any more.

    ``busy`` is how many nodes its jobs have. Together there are no more than ``max_instances``.
    What has been idle for ``idle_time_before_scale_down`` ends, but for the kind that was used
    last, as far as it makes up ``min_instances``. ``now`` is Unix time.
    """
    by_age = sorted(idle, key=_age)
    if compute is None or not by_age:
        return by_age
    room = max(0, compute.max_instances - busy)
    fitting = by_age[max(0, len(by_age) - room) :]
    last_used = [node for node in fitting if node.kind == by_age[-1].kind]
    lasting = last_used[max(0, len(last_used) - max(0, compute.min_instances - busy)) :]
    expired_by = now - compute.idle_time_before_scale_down
    staying = [node for node in fitting if node in lasting or node.started_at > expired_by]
    return [node for node in by_age if node not in staying]


def _age(node: Node) -> tuple[float, str]:
    return node.started_at, node.id
