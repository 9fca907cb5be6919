"""Who gives way where the machine has no room for a node: pure functions.

Computes say how many nodes their jobs may have. Where instance types are promises, the machine may
have room for fewer, of all computes together: jobs take turns with it as with a node of a compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from headgate.batch.core import TURN_S
from headgate_contracts.provisioning import Amounts

NOTHING = Amounts(cores=0, memory_bytes=0, gpus=0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that has ``nodes``, and would have another if there were room for what it needs."""

    priority: int
    needs: Amounts
    nodes: int


@dataclass(frozen=True, slots=True)
class Held:
    """A node of another job, and the room that it takes.

    ``worked_s``: for how long it has had its script loaded; None: it has not yet.
    """

    node: str
    job: str
    priority: int
    takes: Amounts
    worked_s: float | None


def can_be_helped(waiting: Waiting, held: Sequence[Held], free: Amounts) -> bool:
    """Whether there would be room if jobs of no higher priority had none at all.

    If not, others have the room, and it is of no use to keep what is free for this job.
    """
    for each in held:
        if each.priority <= waiting.priority:
            free += each.takes
    return waiting.needs.fits(free)


def giving_way(waiting: Waiting, held: Sequence[Held], free: Amounts) -> list[str]:
    """The nodes that end now to make room; none where that is not enough, or not yet fair.

    A job of lower priority gives way at once, and so does one with two nodes more than the job that
    waits. One with a single node more does when that node has worked for a turn.
    """
    counts = Counter(each.job for each in held)
    left = [each for each in held if each.takes != NOTHING]
    chosen: list[str] = []
    while not waiting.needs.fits(free):
        fair = [each for each in left if _gives_way(each, counts[each.job], waiting)]
        if not fair:
            return []
        first = min(fair, key=lambda each: (each.priority, -counts[each.job], *_age(each)))
        left.remove(first)
        counts[first.job] -= 1
        free += first.takes
        chosen.append(first.node)
    return chosen


def _gives_way(each: Held, count: int, waiting: Waiting) -> bool:
    if each.priority != waiting.priority:
        return each.priority < waiting.priority
    if count == waiting.nodes + 1:
        return each.worked_s is not None and each.worked_s >= TURN_S
    return count > waiting.nodes + 1


def _age(each: Held) -> tuple[bool, float, str]:
    """First what does not work yet, then what has worked the longest."""
    return each.worked_s is not None, -(each.worked_s or 0.0), each.node
