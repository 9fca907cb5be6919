"""Azure's metrics of online endpoints and deployments: their names, units and dimensions.

Every metric has a grain of one minute. Which of its figures means something is its ``aggregation``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Query, Reply, Value

Unit = Literal[
    "Count", "MilliSeconds", "Percent", "BytesPerSecond", "CountPerSecond", "Unspecified"
]
Aggregation = Literal["Average", "Minimum", "Maximum", "Total", "Count"]


class Metric(Value):
    """One metric of one kind of resource."""

    name: str
    unit: Unit
    description: str
    dimensions: tuple[str, ...] = ()
    aggregation: Aggregation = "Average"


_QUANTILES = (50, 90, 95, 99)


def _latencies(dimensions: tuple[str, ...]) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            name=f"RequestLatency_P{quantile}",
            unit="MilliSeconds",
            description=f"What {quantile} % of requests took at most, within 10 % of the value",
            dimensions=dimensions,
        )
        for quantile in _QUANTILES
    )


def _collected(dimensions: tuple[str, ...]) -> tuple[Metric, ...]:
    return (
        Metric(
            name="DataCollectionEventsPerMinute",
            unit="Count",
            description="Events of data collection",
            dimensions=dimensions,
        ),
        Metric(
            name="DataCollectionErrorsPerMinute",
            unit="Count",
            description="Events of data collection that were lost",
            dimensions=dimensions,
        ),
    )


def _of_instances(name: str, unit: Unit, description: str, *more: str) -> Metric:
    return Metric(name=name, unit=unit, description=description, dimensions=("instanceId", *more))


ENDPOINT: tuple[Metric, ...] = (
    Metric(
        name="RequestsPerMinute",
        unit="Count",
        description="Requests answered, whatever the status",
        dimensions=("deployment", "statusCode", "statusCodeClass", "modelStatusCode"),
    ),
    Metric(
        name="RequestLatency",
        unit="MilliSeconds",
        description="From a whole request to its answer",
        dimensions=("deployment",),
    ),
    *_latencies(("deployment",)),
    Metric(
        name="ConnectionsActive",
        unit="Count",
        description="Open connections of clients, to all endpoints",
    ),
    Metric(
        name="NewConnectionsPerSecond",
        unit="CountPerSecond",
        description="Connections that clients made, to all endpoints",
    ),
    Metric(
        name="NetworkBytes", unit="BytesPerSecond", description="Bodies of requests and answers"
    ),
    *_collected(("deployment",)),
)
DEPLOYMENT: tuple[Metric, ...] = (
    _of_instances("CpuUtilizationPercentage", "Percent", "Of the cores of the instance type"),
    _of_instances("CpuMemoryUtilizationPercentage", "Percent", "Of the type's memory"),
    _of_instances("GpuUtilizationPercentage", "Percent", "Mean of the instance's GPUs"),
    _of_instances("GpuMemoryUtilizationPercentage", "Percent", "Of its GPUs' memory"),
    _of_instances("GpuEnergyJoules", "Unspecified", "Used by the GPUs in a minute"),
    _of_instances("DiskUtilization", "Percent", "Of the file system it writes to", "disk"),
    _of_instances("DeploymentCapacity", "Count", "Instances", "State"),
    Metric(
        name="RequestsPerMinute",
        unit="Count",
        description="Requests answered, whatever the status",
        dimensions=("envoy_response_code",),
    ),
    *_latencies(()),
    *_collected(("instanceId",)),
)


class QueryMetrics(Query):
    """Points of metrics of an endpoint, or of a deployment when one is named.

    ``splits`` are dimensions that get series of their own; ``only`` keeps values of dimensions.
    """

    TYPE: ClassVar[str] = "headgate.metering.query.v1.query_metrics"

    workspace: str
    endpoint: str
    deployment: str = ""
    names: tuple[str, ...] = Field(min_length=1, max_length=limits.METRICS_PER_QUERY_MAX)
    since: float
    until: float
    interval_s: int = Field(60, ge=60, le=86_400, multiple_of=60)
    splits: tuple[str, ...] = Field((), max_length=4)
    only: dict[str, str] = {}


class Point(Value):
    """Figures of one interval; ``at`` is its begin. An interval without data has no point."""

    at: float
    average: float
    minimum: float
    maximum: float
    total: float
    count: float


class Series(Value):
    dimensions: dict[str, str] = {}
    points: tuple[Point, ...]


class MetricSeries(Value):
    metric: Metric
    series: tuple[Series, ...]


class MetricsReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.metrics"

    metrics: tuple[MetricSeries, ...]
