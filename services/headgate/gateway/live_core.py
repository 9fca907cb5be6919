"""What deployments do at this moment, from the last few load reports of all routers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from headgate_contracts.load import DeploymentLoad, LoadReported
from headgate_contracts.routing import LATENCY_BOUNDS_MS

WINDOW_S = 5.0
SILENT_S = 5.0
"""A router that has said nothing for so long is not counted any more."""
ROUTERS_MAX = 256

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Report:
    """All parts of one report, as far as they have come."""

    seq: int
    mono_s: float
    heard: float
    rows: dict[Key, DeploymentLoad] = field(default_factory=dict)


@dataclass(slots=True)
class LiveRow:
    """One deployment over the last seconds, all routers together. Rates are per second."""

    endpoint: str
    deployment: str
    requests_per_s: float = 0.0
    failures_per_s: float = 0.0
    mirrored_per_s: float = 0.0
    request_bytes_per_s: float = 0.0
    response_bytes_per_s: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    held: int = 0
    ready_instances: int = 0
    slots: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def quantile_ms(self, q: float) -> float | None:
        """The upper bound of the bucket that holds the quantile; None: nothing was answered."""
        total = sum(self.buckets.values())
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if total and seen >= q * total:
                return LATENCY_BOUNDS_MS[min(index, len(LATENCY_BOUNDS_MS) - 1)]
        return None


class LiveLoad:
    """The last reports of each router; bounded by their number and age."""

    def __init__(self) -> None:
        self._routers: dict[str, deque[_Report]] = {}

    def hear(self, said: LoadReported, now: float) -> None:
        """Take a report, or a part of one; ``now`` on our monotonic clock, in seconds."""
        if said.is_last:
            self._routers.pop(said.router, None)
            return
        if said.router not in self._routers and len(self._routers) >= ROUTERS_MAX:
            return
        reports = self._routers.setdefault(said.router, deque())
        if not reports or reports[-1].seq != said.seq:
            reports.append(_Report(said.seq, said.mono_s, now))
        for row in said.deployments:
            reports[-1].rows[row.workspace, row.endpoint, row.deployment] = row
        while len(reports) > 2 and said.mono_s - reports[1].mono_s >= WINDOW_S:
            reports.popleft()

    def routers(self, now: float) -> int:
        """How many there are."""
        self._forget_silent(now)
        return len(self._routers)

    def _forget_silent(self, now: float) -> None:
        for router in [r for r, kept in self._routers.items() if now - kept[-1].heard > SILENT_S]:
            del self._routers[router]

    def rows(self, workspace: str, now: float) -> list[LiveRow]:
        """What is known of a workspace, in the order of names."""
        self._forget_silent(now)
        found: dict[Key, LiveRow] = {}
        for reports in self._routers.values():
            first, last = reports[0], reports[-1]
            seconds = last.mono_s - first.mono_s
            for key, late in last.rows.items():
                if key[0] == workspace:
                    row = found.setdefault(key, LiveRow(late.endpoint, late.deployment))
                    _add(row, first.rows.get(key), late, seconds)
        return [found[key] for key in sorted(found)]


def _add(row: LiveRow, early: DeploymentLoad | None, late: DeploymentLoad, seconds: float) -> None:
    """Add one router's part. Counts that have fallen have begun anew: all of them are new."""
    row.in_flight += late.in_flight
    row.waiting += late.waiting
    row.held += late.held
    row.slots = max(row.slots, late.slots)
    row.ready_instances = max(row.ready_instances, late.ready_instances)
    if seconds <= 0:
        return
    if early is None or sum(early.statuses.values()) > sum(late.statuses.values()):
        early = DeploymentLoad(endpoint=late.endpoint, deployment=late.deployment)
    for status, count in _grown(early.statuses, late.statuses):
        row.requests_per_s += count / seconds
        if status >= 400:
            row.failures_per_s += count / seconds
    row.mirrored_per_s += sum(n for _, n in _grown(early.mirrored, late.mirrored)) / seconds
    row.request_bytes_per_s += (late.request_bytes - early.request_bytes) / seconds
    row.response_bytes_per_s += (late.response_bytes - early.response_bytes) / seconds
    for index, count in _grown(early.latency_buckets, late.latency_buckets):
        row.buckets[index] = row.buckets.get(index, 0) + count


def _grown(early: dict[int, int], late: dict[int, int]) -> Iterator[tuple[int, int]]:
    for key, count in late.items():
        if (more := count - early.get(key, 0)) > 0:
            yield key, more
