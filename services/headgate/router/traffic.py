"""Counts of what a router answered, per deployment."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from headgate_contracts.routing import LATENCY_BOUNDS_MS, DeploymentTraffic


class Traffic:
    """Outcomes of one deployment since the router started."""

    __slots__ = ("_latency", "_mirror_latency", "mirrored", "requests", "statuses")

    def __init__(self) -> None:
        self.requests = 0
        self.statuses: Counter[int] = Counter()
        self.mirrored: Counter[int] = Counter()
        self._latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self._mirror_latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def note(self, status: int, elapsed_s: float) -> None:
        """A client's request ended with this status."""
        self.requests += 1
        self.statuses[status] += 1
        self._latency[bisect_left(LATENCY_BOUNDS_MS, 1000 * elapsed_s)] += 1

    def note_mirrored(self, status: int, elapsed_s: float) -> None:
        """A mirrored copy ended with the model's own status, or 0 when it got no answer."""
        self.mirrored[status] += 1
        if status:
            self._mirror_latency[bisect_left(LATENCY_BOUNDS_MS, 1000 * elapsed_s)] += 1

    def snapshot(
        self, *, in_flight: int, ready_instances: int, quarantined: dict[str, float] | None = None
    ) -> DeploymentTraffic:
        return DeploymentTraffic(
            requests=self.requests,
            statuses=dict(self.statuses),
            mirrored=dict(self.mirrored),
            latency_buckets=tuple(self._latency),
            mirror_latency_buckets=tuple(self._mirror_latency),
            in_flight=in_flight,
            ready_instances=ready_instances,
            quarantined=quarantined or {},
        )
