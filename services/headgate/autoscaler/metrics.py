"""Metrics of Azure's names from what routers and instances report, over windows. Pure.

A *step* is what has been reported within about a second. A :class:`Track` gathers steps into the
grains that a rule asks for, and gives the value of a metric over its window.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headgate.autoscaler.values import Reading, Unread
from headgate_contracts.autoscale import MetricDimension, MetricTrigger, Statistic, TimeAggregation
from headgate_contracts.routing import LATENCY_BOUNDS_MS

COVERAGE_MIN = 0.8  # of a window's grains, and of a grain's steps
SILENT_AFTER_S = 3.5
KEY = tuple[str, str]
FIGURES = ("disk_percent", "gpu_percent", "gpu_memory_percent")
_BUCKET_RATIO = 2**0.25


class InstanceUse:
    """What one instance used during a step or grain; cores and bytes.

    ``totals`` and ``looks`` are of what not every instance reports: ``FIGURES``, and the growth
    of ``gpu_joules``.
    """

    __slots__ = ("cpu_s", "looks", "memory_bytes", "readings", "span_s", "totals")

    def __init__(self) -> None:
        self.cpu_s = self.span_s = self.memory_bytes = 0.0
        self.readings = 0
        self.totals: defaultdict[str, float] = defaultdict(float)
        self.looks = Counter[str]()

    def look(self, name: str, value: float | None) -> None:
        if value is not None:
            self.totals[name] += value
            self.looks[name] += 1

    def add(self, other: InstanceUse) -> None:
        self.cpu_s += other.cpu_s
        self.span_s += other.span_s
        self.memory_bytes += other.memory_bytes
        self.readings += other.readings
        self.looks.update(other.looks)
        for name, total in other.totals.items():
            self.totals[name] += total


@dataclass(slots=True)
class Sums:
    """What happened at one deployment during a step or grain, all routers together."""

    span_s: float = 0.0
    busy_s: float = 0.0
    arrivals: int = 0
    served: int = 0
    service_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    model_statuses: Counter[int] = field(default_factory=Counter)
    latency_s: float = 0.0
    latencies: Counter[int] = field(default_factory=Counter)
    traffic_bytes: int = 0
    collected: int = 0
    collect_dropped: int = 0
    instances: dict[str, InstanceUse] = field(default_factory=dict)
    in_hand: int = 0
    waiting: int = 0
    held: int = 0
    ready: int = 0
    looks: int = 0  # how many steps the four figures above are the sum of
    connections: int = 0  # those of clients are the endpoint's, of no deployment
    connection_looks: int = 0
    opened: int = 0

    def add(self, other: Sums) -> None:
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.statuses.update(other.statuses)
        self.model_statuses.update(other.model_statuses)
        self.latencies.update(other.latencies)
        for name, use in other.instances.items():
            self.instances.setdefault(name, InstanceUse()).add(use)


_ADDED = (
    *("span_s", "busy_s", "arrivals", "served", "service_s", "latency_s", "traffic_bytes"),
    *("collected", "collect_dropped", "in_hand", "waiting", "held", "ready", "looks"),
    *("connections", "connection_looks", "opened"),
)


class Size(NamedTuple):
    """What an instance of a deployment may use; 0: not known."""

    cores: float = 0.0
    memory_bytes: float = 0.0


# --- the metrics -------------------------------------------------------------------------------

Samples = list[float]
"""The values that a grain has, one per instance where there are several."""
Measure = Callable[["Sums", "Size"], Samples]


def _per_minute(sums: Sums, count: float) -> Samples:
    return [60 * count / sums.span_s] if sums.span_s else []


def _latency(sums: Sums) -> Samples:
    count = sum(sums.latencies.values())
    return [1000 * sums.latency_s / count] if count else []


def _quantile(sums: Sums, share: float) -> Samples:
    total = sum(sums.latencies.values())
    wanted, seen = share * total, 0
    for index in sorted(sums.latencies):
        count = sums.latencies[index]
        if count and seen + count >= wanted:
            if index >= len(LATENCY_BOUNDS_MS):
                return [LATENCY_BOUNDS_MS[-1]]
            upper = LATENCY_BOUNDS_MS[index]
            return [upper / _BUCKET_RATIO * _BUCKET_RATIO ** ((wanted - seen) / count)]
        seen += count
    return []


def _cpu(sums: Sums, size: Size) -> Samples:
    """An instance that reports no processor time at all cannot measure it."""
    used: dict[str, float] = {}
    for lane, use in sums.instances.items():
        if use.span_s and use.cpu_s:
            instance = lane.partition("-")[0]
            used[instance] = used.get(instance, 0.0) + use.cpu_s / use.span_s
    return [100 * cores / size.cores for cores in used.values()] if size.cores else []


def _memory(sums: Sums, size: Size) -> Samples:
    used: dict[str, float] = {}
    for lane, use in sums.instances.items():
        if use.readings and use.memory_bytes:
            instance = lane.partition("-")[0]
            used[instance] = used.get(instance, 0.0) + use.memory_bytes / use.readings
    if not size.memory_bytes:
        return []
    return [100 * each / size.memory_bytes for each in used.values()]


def _figure(name: str) -> Measure:
    def samples(sums: Sums, size: Size) -> Samples:
        uses = sums.instances.values()
        return [use.totals[name] / use.looks[name] for use in uses if use.looks[name]]

    return samples


def _gpu_energy(sums: Sums, size: Size) -> Samples:
    """Joules in a minute."""
    uses = [use for use in sums.instances.values() if use.looks["gpu_joules"] and use.span_s]
    return [60 * use.totals["gpu_joules"] / use.span_s for use in uses]


def _opened(sums: Sums) -> Samples:
    return [sums.opened / sums.span_s] if sums.connection_looks and sums.span_s else []


def _mean(total: float, looks: int) -> Samples:
    return [total / looks] if looks else []


_OF_INSTANCES: Mapping[str, Measure] = {
    "CpuUtilizationPercentage": _cpu,
    "CpuMemoryUtilizationPercentage": _memory,
    "GpuUtilizationPercentage": _figure("gpu_percent"),
    "GpuMemoryUtilizationPercentage": _figure("gpu_memory_percent"),
    "GpuEnergyJoules": _gpu_energy,
    "DiskUtilization": _figure("disk_percent"),
}
_MEASURES: Mapping[str, Measure] = {
    "RequestsPerMinute": lambda s, _: _per_minute(s, sum(s.statuses.values())),
    "RequestLatency": lambda s, _: _latency(s),
    "RequestLatency_P50": lambda s, _: _quantile(s, 0.5),
    "RequestLatency_P90": lambda s, _: _quantile(s, 0.9),
    "RequestLatency_P95": lambda s, _: _quantile(s, 0.95),
    "RequestLatency_P99": lambda s, _: _quantile(s, 0.99),
    "NetworkBytes": lambda s, _: [s.traffic_bytes / s.span_s] if s.span_s else [],
    "ConnectionsActive": lambda s, _: _mean(s.connections, s.connection_looks),
    "NewConnectionsPerSecond": lambda s, _: _opened(s),
    "DataCollectionEventsPerMinute": lambda s, _: _per_minute(s, s.collected),
    "DataCollectionErrorsPerMinute": lambda s, _: _per_minute(s, s.collect_dropped),
    **_OF_INSTANCES,
    "DeploymentCapacity": lambda s, _: _mean(s.ready, s.looks),
    "ConcurrentRequests": lambda s, _: [s.busy_s / s.span_s] if s.span_s else [],
    "WaitingRequests": lambda s, _: _mean(s.waiting + s.held, s.looks),
}
_BY_NAME = {name.lower(): measure for name, measure in _MEASURES.items()}
KNOWN: Mapping[str, str] = {name.lower(): name for name in _MEASURES}
"""Every metric that a rule may name, by its name in lower case."""


def samples_of(
    trigger: MetricTrigger, parts: Mapping[str, Sums], sizes: Mapping[str, Size]
) -> Samples:
    """What a grain has of a metric. ``parts``: deployment -> what happened there."""
    measure = _BY_NAME.get(trigger.metric_name.lower())
    if measure is None:
        return []
    chosen = [
        (name, _chosen(sums, trigger.dimensions))
        for name, sums in parts.items()
        if _is_chosen("deployment", name, trigger.dimensions)
    ]
    if len(chosen) == 1:
        name, sums = chosen[0]
        return measure(sums, sizes.get(name, Size()))
    if measure in _OF_INSTANCES.values():
        return [each for name, sums in chosen for each in measure(sums, sizes.get(name, Size()))]
    whole = Sums()
    for _, sums in chosen:
        whole.add(sums)
    spans = [sums.span_s for _, sums in chosen]
    whole.span_s, whole.looks = (
        max(spans, default=0.0),
        max((s.looks for _, s in chosen), default=0),
    )
    return measure(whole, Size())


def _is_chosen(dimension: str, value: str, dimensions: Iterable[MetricDimension]) -> bool:
    for each in dimensions:
        if each.name.lower() == dimension:
            known = value.lower() in {word.lower() for word in each.values}
            if known != (each.operator == "Equals"):
                return False
    return True


def _chosen(sums: Sums, dimensions: tuple[MetricDimension, ...]) -> Sums:
    """The same without the statuses and instances that the dimensions leave out."""
    names = {each.name.lower() for each in dimensions} - {"deployment"}
    if not names:
        return sums
    chosen = Sums()
    chosen.add(sums)
    counts = sums.model_statuses if "modelstatuscode" in names else sums.statuses
    chosen.statuses = Counter(
        {
            status: count
            for status, count in counts.items()
            if all(
                _is_chosen(name, str(status), dimensions)
                for name in ("statuscode", "modelstatuscode", "envoy_response_code")
            )
            and _is_chosen("statuscodeclass", f"{status // 100}xx", dimensions)
        }
    )
    chosen.instances = {
        lane: use
        for lane, use in sums.instances.items()
        if _is_chosen("instanceid", lane.partition("-")[0], dimensions)
    }
    return chosen


_STATISTICS: Mapping[Statistic, Callable[[Samples], float]] = {
    Statistic.AVERAGE: lambda values: sum(values) / len(values),
    Statistic.MIN: min,
    Statistic.MAX: max,
    Statistic.SUM: sum,
    Statistic.COUNT: len,
}
_AGGREGATIONS: Mapping[TimeAggregation, Callable[[Samples], float]] = {
    TimeAggregation.AVERAGE: lambda values: sum(values) / len(values),
    TimeAggregation.MINIMUM: min,
    TimeAggregation.MAXIMUM: max,
    TimeAggregation.TOTAL: sum,
    TimeAggregation.COUNT: len,
    TimeAggregation.LAST: lambda values: values[-1],
}


# --- windows -----------------------------------------------------------------------------------


class Grain(NamedTuple):
    """A grain that is over. ``parts``: deployment -> what happened there."""

    parts: Mapping[str, Sums]
    heard: bool


class Track:
    """The grains of one resource, as many as the longest window that looks at them needs."""

    def __init__(self, grain_s: int, window_s: int) -> None:
        self.grain_s = grain_s
        self._grains: deque[Grain] = deque(maxlen=max(1, math.ceil(window_s / grain_s)))
        self._parts: dict[str, Sums] = {}
        self._steps = self._heard = 0
        self._number: int | None = None
        self._read: dict[tuple[Hashable, ...], Reading] = {}  # since the last grain

    def widen(self, window_s: int) -> None:
        """Keep at least this much from now on."""
        size = max(1, math.ceil(window_s / self.grain_s))
        if size > (self._grains.maxlen or 0):
            self._grains = deque(self._grains, maxlen=size)
            self._read.clear()

    def feed(self, now: float, parts: Mapping[str, Sums], *, heard: bool) -> None:
        """Take a step in. Grains end where the clock's multiples of their length are."""
        number = int(now // self.grain_s)
        if self._number is not None and number != self._number:
            known = bool(self._heard) and self._heard >= COVERAGE_MIN * self._steps
            self._grains.append(Grain(self._parts, known))
            for _ in range(min(number - self._number - 1, self._grains.maxlen or 0)):
                self._grains.append(Grain({}, heard=False))
            self._parts, self._steps, self._heard = {}, 0, 0
            self._read.clear()
        self._number = number
        self._steps += 1
        self._heard += heard
        for name, sums in parts.items():
            self._parts.setdefault(name, Sums()).add(sums)

    def read(self, trigger: MetricTrigger, sizes: Mapping[str, Size]) -> Reading:
        """The value of a metric over the rule's window, which ends with the last whole grain."""
        what = (
            trigger.metric_name,
            trigger.time_window,
            trigger.statistic,
            trigger.time_aggregation,
            trigger.dimensions,
        )
        if what not in self._read:
            self._read[what] = self._value(trigger, sizes)
        return self._read[what]

    def _value(self, trigger: MetricTrigger, sizes: Mapping[str, Size]) -> Reading:
        size = max(1, math.ceil(trigger.time_window / self.grain_s))
        if len(self._grains) < size:
            return Unread.YOUNG
        recent = list(self._grains)[-size:]
        if sum(grain.heard for grain in recent) < COVERAGE_MIN * size:
            return Unread.NO_DATA
        values = [
            _STATISTICS[trigger.statistic](samples)
            for grain in recent
            if grain.heard and (samples := samples_of(trigger, grain.parts, sizes))
        ]
        return _AGGREGATIONS[trigger.time_aggregation](values) if values else Unread.IDLE
