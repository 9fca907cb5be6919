"""What was reported within a minute, as one value per endpoint, deployment and instance. Pure.

Counts of routers and instances only grow, so what a minute adds is the difference to the report
before; of a reporter that was there before us the first report is where counting begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headgate_contracts.load import Counts, LoadReported

FORGOTTEN_AFTER_S = 120.0


class Place(NamedTuple):
    """Whose values they are; an endpoint has no deployment, a deployment no instance."""

    workspace: str
    endpoint: str
    deployment: str = ""
    instance: str = ""


@dataclass(slots=True)
class Gauge:
    """Looks at a figure."""

    total: float = 0.0
    count: int = 0
    least: float = 0.0
    most: float = 0.0

    def look(self, value: float) -> None:
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value) if self.count else value
        self.total += value
        self.count += 1

    def told(self) -> list[float]:
        return [self.total, self.count, self.least, self.most]


def added(gauges: Iterable[Gauge]) -> list[float]:
    """Looks at what adds up, each at one part, as looks at the whole; the extremes are bounds."""
    told = [gauge.told() for gauge in gauges]
    count = max(each[1] for each in told)
    mean = sum(each[0] / each[1] for each in told)
    return [count * mean, count, sum(each[2] for each in told), sum(each[3] for each in told)]


@dataclass(slots=True)
class Minute:
    """What one place adds to a minute."""

    counts: dict[str, Counter[int]] = field(default_factory=dict)
    sums: Counter[str] = field(default_factory=Counter)
    gauges: dict[str, Gauge] = field(default_factory=dict)
    of_lanes: dict[str, dict[str, Gauge]] = field(default_factory=dict)
    state: str = ""

    def told(self) -> dict[str, Any]:
        """As JSON; what is empty is left out."""
        found: dict[str, Any] = {
            name: {str(key): n for key, n in counts.items() if n}
            for name, counts in self.counts.items()
        }
        found = {name: counts for name, counts in found.items() if counts}
        found |= {name: round(value, 6) for name, value in self.sums.items() if value}
        found |= {name: gauge.told() for name, gauge in self.gauges.items() if gauge.count}
        found |= {name: added(lanes.values()) for name, lanes in self.of_lanes.items()}
        return {**found, "state": self.state} if self.state else found


class Size(NamedTuple):
    """What an instance may use."""

    cores: float
    memory_bytes: int


class Minutes:
    """Gathers reports; ``take`` gives what has come since it was last asked."""

    def __init__(self, began: float) -> None:
        """``began`` is Unix time: routers that are older are counted from their first report."""
        self._began = began
        self._now: dict[Place, Minute] = {}
        self._last: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}

    def take(self, now: float) -> dict[Place, dict[str, Any]]:
        """Values by place; what has not been heard of for long is forgotten."""
        for key in [k for k, (at, _) in self._last.items() if now - at > FORGOTTEN_AFTER_S]:
            del self._last[key]
        found, self._now = self._now, {}
        told = {place: minute.told() for place, minute in found.items()}
        return {place: value for place, value in told.items() if value}

    def hear_load(self, said: LoadReported, now: float) -> None:
        """A report of a router."""
        is_new = said.since >= self._began
        for each in said.deployments:
            place = Place(each.workspace, each.endpoint, each.deployment)
            minute = self._minute(place)
            counts = {
                "statuses": each.statuses,
                "model_statuses": each.model_statuses,
                "latencies": each.latency_buckets,
            }
            sums = {
                "latency_s": each.latency_s,
                "bytes": float(each.request_bytes + each.response_bytes),
            }
            self._add(minute, (said.router, *place), counts, sums, now, is_new=is_new)
        opened = self._grown((said.router,), {"opened": said.connections_opened}, now, is_new)
        for endpoint in said.endpoints:
            place = Place(endpoint.workspace, endpoint.endpoint)
            minute = self._minute(place)
            key = (said.router, *place)
            self._add(minute, key, {"statuses": endpoint.refused}, {}, now, is_new=is_new)
            minute.sums["opened"] += opened["opened"]
            minute.gauges.setdefault("connections", Gauge()).look(said.connections)

    def hear_instance(
        self, place: Place, lane: str, beat: Mapping[str, Any], size: Size | None, now: float
    ) -> None:
        """A heartbeat of one of the processes of an instance."""
        minute = self._minute(place)
        minute.state = str(beat.get("state", ""))
        figures = {
            name: float(beat.get(name) or 0) for name in (*_SUMS_OF_BEATS, "cpu_s", "mono_ms")
        }
        known = self._last.get(("beat", lane))
        grown = self._grown(("beat", lane), figures, now, is_new=False)
        for name in _SUMS_OF_BEATS:
            minute.sums[name] += grown[name]
        for name in _LOOKS_OF_BEATS:
            if beat.get(name) is not None:
                minute.gauges.setdefault(name, Gauge()).look(float(beat[name]))
        span_s = grown["mono_ms"] / 1000
        if size is None or known is None or not 0 < span_s < FORGOTTEN_AFTER_S:
            return
        used = {
            "cpu": grown["cpu_s"] / span_s / size.cores,
            "memory": float(beat.get("rss_bytes") or 0) / size.memory_bytes,
        }
        for name, share in used.items():
            lanes = minute.of_lanes.setdefault(name, {})
            lanes.setdefault(lane, Gauge()).look(100 * share)

    def _minute(self, place: Place) -> Minute:
        return self._now.setdefault(place, Minute())

    def _add(
        self,
        minute: Minute,
        key: tuple[str, ...],
        counts: Mapping[str, Counts],
        sums: Mapping[str, float],
        now: float,
        *,
        is_new: bool,
    ) -> None:
        for name, values in counts.items():
            grown = self._grown((*key, name), values, now, is_new)
            minute.counts.setdefault(name, Counter()).update(grown)
        for name, value in self._grown(key, sums, now, is_new).items():
            minute.sums[name] += value

    def _grown(
        self, key: tuple[str, ...], values: Mapping[Any, float], now: float, is_new: bool
    ) -> dict[Any, Any]:
        """By how much each has grown; one that is smaller than before has begun anew."""
        _, before = self._last.get(key, (0.0, None))
        self._last[key] = (now, dict(values))
        if before is None:
            return dict(values) if is_new else dict.fromkeys(values, 0)
        return {
            name: value - before.get(name, 0) if value >= before.get(name, 0) else value
            for name, value in values.items()
        }


_SUMS_OF_BEATS = ("collected", "collect_dropped", "gpu_joules")
_LOOKS_OF_BEATS = ("disk_percent", "gpu_percent", "gpu_memory_percent")
