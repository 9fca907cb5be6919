"""What the clients' deployment and the one that gets copies make of requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BUCKET_RATIO = 2**0.25  # upper to lower bound of the routers' buckets
SHOWN_QUANTILES = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Side:
    """What one deployment made of the requests it got, or of the copies of others'."""

    deployment: str
    is_mirror: bool
    statuses: Mapping[str, int]
    latency_ms: Mapping[str, float | None]
    histogram: Sequence[Mapping[str, Any]]

    @property
    def title(self) -> str:
        return f"{self.deployment} (copies)" if self.is_mirror else self.deployment

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def failed_percent(self) -> float | None:
        """Those that were not answered with a status below 400; None without any request."""
        failed = sum(n for status, n in self.statuses.items() if not 200 <= int(status) < 400)
        return 100 * failed / self.requests if self.requests else None


def sides(traffic: Mapping[str, Any]) -> list[Side]:
    """Deployments that answer clients, then those that get copies."""
    told = traffic["deployments"].items()
    clients = [
        Side(name, False, part["statuses"], part["latencyMs"], part["latencyHistogram"])
        for name, part in told
        if part["requests"] or part["declaredPercent"]
    ]
    copies = [
        Side(name, True, part["mirrored"], part["mirrorLatencyMs"], part["mirrorLatencyHistogram"])
        for name, part in told
        if part["mirrored"] or part["declaredMirrorPercent"]
    ]
    return clients + copies


def outline(histogram: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The corners of a histogram's bars from left to right: (ms, per cent of the answers).

    For a logarithmic axis: a bucket that begins at 0 or ends nowhere is drawn as wide as all are.
    """
    answers = sum(bucket["count"] for bucket in histogram)
    bars = [
        (
            bucket["fromMs"] or bucket["upToMs"] / BUCKET_RATIO,
            bucket["upToMs"] or bucket["fromMs"] * BUCKET_RATIO,
            round(100 * bucket["count"] / answers, 2),
        )
        for bucket in histogram
    ]
    if not bars:
        return []
    corners = [(bars[0][0], 0.0)]
    for left, right, percent in bars:
        if left > corners[-1][0]:  # nothing was answered in between
            corners += [(corners[-1][0], 0.0), (left, 0.0)]
        corners += [(left, percent), (right, percent)]
    return [*corners, (bars[-1][1], 0.0)]


def status_text(status: str) -> str:
    """A status of the router's counts, for people."""
    return "no answer" if status == "0" else status
