"""Metrics of Azure's names from stored minutes. Pure.

A minute gives each metric some *parts*, each with its dimensions. Parts of one minute that belong
to the same series are put together (counts are added, histograms merged, looks gathered)
and become one sample; samples of an interval give its average, minimum, maximum, total and count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from headgate_contracts.metrics import (
    DEPLOYMENT,
    ENDPOINT,
    Metric,
    Point,
    QueryMetrics,
    Series,
)
from headgate_contracts.routing import LATENCY_BOUNDS_MS

MINUTE_S = 60
_BUCKET_RATIO = 2**0.25


class Stored(NamedTuple):
    """A stored minute of a place below the endpoint that is asked about."""

    minute: int
    deployment: str
    instance: str
    value: Mapping[str, Any]


class Part(NamedTuple):
    """``amount``: a count, looks as [total, count, least, most], or a histogram."""

    dimensions: Mapping[str, str]
    amount: Any


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one series in a minute, or in an interval."""

    total: float
    count: float
    least: float
    most: float

    def and_then(self, other: Sample) -> Sample:
        return Sample(
            self.total + other.total,
            self.count + other.count,
            min(self.least, other.least),
            max(self.most, other.most),
        )


Parts = Callable[[Stored], Iterator[Part]]
Together = Callable[[Iterable[Any]], Sample | None]


def metrics_of(query: QueryMetrics) -> tuple[Metric, ...]:
    """The metrics of the kind of resource that is asked about."""
    return DEPLOYMENT if query.deployment else ENDPOINT


def series(query: QueryMetrics, metric: Metric, stored: Iterable[Stored]) -> list[Series]:
    """The series of one metric, one for each combination of the values of ``splits``."""
    parts, together = _how(query, metric)
    minutes: defaultdict[tuple[tuple[str, ...], int], list[Any]] = defaultdict(list)
    splits = [name for name in query.splits if name in metric.dimensions]
    for row in stored:
        if query.deployment and row.deployment != query.deployment:
            continue
        for dimensions, amount in parts(row):
            if all(dimensions.get(name) == value for name, value in query.only.items()):
                key = tuple(dimensions.get(name, "") for name in splits)
                minutes[key, row.minute].append(amount)
    found: defaultdict[tuple[str, ...], dict[int, Sample]] = defaultdict(dict)
    for (key, minute), amounts in sorted(minutes.items()):
        sample = together(amounts)
        if sample is not None:
            at = minute // query.interval_s * query.interval_s
            before = found[key].get(at)
            found[key][at] = before.and_then(sample) if before else sample
    return [
        Series(
            dimensions=dict(zip(splits, key, strict=True)),
            points=tuple(_point(at, sample) for at, sample in samples.items()),
        )
        for key, samples in sorted(found.items())
    ]


def _point(at: int, sample: Sample) -> Point:
    return Point(
        at=at,
        average=round(sample.total / sample.count, 6) if sample.count else 0.0,
        minimum=round(sample.least, 6),
        maximum=round(sample.most, 6),
        total=round(sample.total, 6),
        count=sample.count,
    )


def _how(query: QueryMetrics, metric: Metric) -> tuple[Parts, Together]:
    if metric.name.startswith("RequestLatency_P"):
        quantile = int(metric.name.removeprefix("RequestLatency_P")) / 100
        return _histograms, lambda amounts: _quantile(amounts, quantile)
    if metric.name == "RequestsPerMinute":
        by_model = "modelStatusCode" in (*query.splits, *query.only)
        return (_by_model_status if by_model else _by_status), _added
    return _HOW[metric.name]


# --- putting parts of one minute together ------------------------------------------------------


def _added(amounts: Iterable[float]) -> Sample:
    total = float(sum(amounts))
    return Sample(total, 1, total, total)


def _per_second(amounts: Iterable[float]) -> Sample:
    rate = sum(amounts) / MINUTE_S
    return Sample(rate, 1, rate, rate)


def _gathered(amounts: Iterable[list[float]]) -> Sample | None:
    samples = [Sample(*amount) for amount in amounts if amount[1]]
    if not samples:
        return None
    whole = samples[0]
    for sample in samples[1:]:
        whole = whole.and_then(sample)
    return whole


def _quantile(amounts: Iterable[Mapping[str, int]], quantile: float) -> Sample | None:
    merged: Counter[int] = Counter()
    for amount in amounts:
        merged.update({int(index): count for index, count in amount.items()})
    rank = quantile * merged.total()
    below = 0
    for index, count in sorted(merged.items()):
        below += count
        if below >= rank:
            value = _middle_ms(index)
            return Sample(value, 1, value, value)
    return None


def _middle_ms(index: int) -> float:
    """The geometric middle of a bucket: within 10 % of what is in it."""
    upper = LATENCY_BOUNDS_MS[min(index, len(LATENCY_BOUNDS_MS) - 1)]
    return float(upper / _BUCKET_RATIO**0.5) if 0 < index < len(LATENCY_BOUNDS_MS) else upper


# --- the parts that a minute gives -------------------------------------------------------------


def _by_status(row: Stored) -> Iterator[Part]:
    for code, count in row.value.get("statuses", {}).items():
        named = {"statusCode": code, "statusCodeClass": f"{code[0]}xx", "envoy_response_code": code}
        yield Part({"deployment": row.deployment, **named}, count)


def _by_model_status(row: Stored) -> Iterator[Part]:
    for code, count in row.value.get("model_statuses", {}).items():
        yield Part({"deployment": row.deployment, "modelStatusCode": code}, count)


def _histograms(row: Stored) -> Iterator[Part]:
    if "latencies" in row.value:
        yield Part({"deployment": row.deployment}, row.value["latencies"])


def _mean_latency(row: Stored) -> Iterator[Part]:
    """All that is known of single requests is their buckets, so these bound the extremes."""
    buckets = {int(index): n for index, n in row.value.get("latencies", {}).items()}
    if buckets:
        total_ms = 1000 * row.value.get("latency_s", 0.0)
        bounds = [_middle_ms(index) for index in (min(buckets), max(buckets))]
        yield Part({"deployment": row.deployment}, [total_ms, sum(buckets.values()), *bounds])


def _sum(name: str) -> Parts:
    def parts(row: Stored) -> Iterator[Part]:
        if name in row.value:
            where = {"deployment": row.deployment, "instanceId": row.instance}
            yield Part(where, row.value[name])

    return parts


def _looks(name: str, **more: str) -> Parts:
    def parts(row: Stored) -> Iterator[Part]:
        if name in row.value:
            yield Part({"instanceId": row.instance, **more}, row.value[name])

    return parts


def _capacity(row: Stored) -> Iterator[Part]:
    if row.instance:
        yield Part({"instanceId": row.instance, "State": row.value.get("state", "")}, 1)


_HOW: Mapping[str, tuple[Parts, Together]] = {
    "RequestLatency": (_mean_latency, _gathered),
    "ConnectionsActive": (_looks("connections"), _gathered),
    "NewConnectionsPerSecond": (_sum("opened"), _per_second),
    "NetworkBytes": (_sum("bytes"), _per_second),
    "DataCollectionEventsPerMinute": (_sum("collected"), _added),
    "DataCollectionErrorsPerMinute": (_sum("collect_dropped"), _added),
    "CpuUtilizationPercentage": (_looks("cpu"), _gathered),
    "CpuMemoryUtilizationPercentage": (_looks("memory"), _gathered),
    "GpuUtilizationPercentage": (_looks("gpu_percent"), _gathered),
    "GpuMemoryUtilizationPercentage": (_looks("gpu_memory_percent"), _gathered),
    "GpuEnergyJoules": (_sum("gpu_joules"), _added),
    "DiskUtilization": (_looks("disk_percent", disk="tmp"), _gathered),
    "DeploymentCapacity": (_capacity, _added),
}
