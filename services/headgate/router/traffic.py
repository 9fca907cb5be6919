"""Counts of what a router answered, per deployment."""

from __future__ import annotations

from bisect import bisect_left

from headgate.router.answers import ModelAnswer
from headgate_contracts.routing import LATENCY_BOUNDS_MS, DeploymentTraffic


class Traffic:
    """Outcomes of one deployment since the router started; times in seconds."""

    __slots__ = (
        "_latency",
        "_mirror_latency",
        "compute_s",
        "ended_s",
        "latency_s",
        "mirrored",
        "mirrored_compute_s",
        "model_statuses",
        "request_bytes",
        "requests",
        "response_bytes",
        "served",
        "service_s",
        "statuses",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.statuses: dict[int, int] = {}  # plain: a Counter is slow to write to
        self.model_statuses: dict[int, int] = {}
        self.mirrored: dict[int, int] = {}
        self.ended_s = 0.0  # how long all requests were in hand that are no longer, copies too
        self.latency_s = self.compute_s = self.mirrored_compute_s = 0.0
        self.request_bytes = self.response_bytes = self.served = 0
        self.service_s = 0.0  # how long instances took for those that they answered
        self._latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self._mirror_latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def note_refused(self, status: int) -> None:
        """A client's request was refused at once: that says nothing about latencies."""
        self.requests += 1
        _count(self.statuses, status)

    def note(
        self,
        status: int,
        elapsed_s: float,
        given: ModelAnswer | None = None,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """A client's request ended with this status; ``given`` is what the model answered."""
        self.requests += 1
        _count(self.statuses, status)
        self.ended_s += elapsed_s
        self.latency_s += elapsed_s
        self._latency[bisect_left(LATENCY_BOUNDS_MS, 1000 * elapsed_s)] += 1
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes
        if given is not None:
            _count(self.model_statuses, given.status)
            self.compute_s += given.compute_us / 1e6

    def note_mirrored(self, elapsed_s: float, given: ModelAnswer | None) -> None:
        """A mirrored copy ended with the model's own status, or as 0 when it got no answer."""
        status = given.status if given is not None else 0
        _count(self.mirrored, status)
        self.ended_s += elapsed_s
        if given is not None:
            self.mirrored_compute_s += given.compute_us / 1e6
        if status:
            self._mirror_latency[bisect_left(LATENCY_BOUNDS_MS, 1000 * elapsed_s)] += 1

    def latency_buckets(self) -> dict[int, int]:
        """Index of :data:`LATENCY_BOUNDS_MS` -> requests, without the empty ones."""
        return {index: count for index, count in enumerate(self._latency) if count}

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


def _count(counts: dict[int, int], status: int) -> None:
    counts[status] = counts.get(status, 0) + 1
