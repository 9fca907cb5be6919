"""Charts of the last hour by the minute: requests by status, processor time, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from headgate.client import metrics
from headgate.portal import charts_core
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

REFRESH_S = 15.0
FRESH_S = 7.5  # another page's answer is as good
STATUSES = ("Requests by status, last hour", "per minute")
CPU = ("Processor time, last hour", "% of the instance type")
MEMORY = ("Memory, last hour", "% of the instance type")
_HOUR = {"timespan": "PT1H", "interval": "PT1M"}
_BY_STATUS = {
    **_HOUR,
    "aggregation": "total",
    "metricnames": "RequestsPerMinute",
    "$filter": "statusCode eq '*'",
}
_LOAD = {"CpuUtilizationPercentage": CPU, "CpuMemoryUtilizationPercentage": MEMORY}
_OF_INSTANCES = {**_HOUR, "aggregation": "average", "metricnames": ",".join(_LOAD)}

Lines = Mapping[str, Sequence[Sequence[float | None]]]


async def look(session: Session, endpoint: str) -> dict[tuple[str, str], Lines]:
    """What each of the charts shows, by line; what nobody can tell now is left out."""
    statuses: Lines = {}
    load: dict[tuple[str, str], dict[str, list[list[float | None]]]] = {CPU: {}, MEMORY: {}}
    with contextlib.suppress(HeadgateError):
        told = await metrics.query(session.client, endpoint, "", _BY_STATUS)
        statuses = charts_core.aligned(charts_core.metric_lines(told, "total"))
    for deployed in session.watch.view.deployments.get(endpoint, ()):
        name = deployed.spec.name
        with contextlib.suppress(HeadgateError):
            told = await metrics.query(session.client, endpoint, name, _OF_INSTANCES)
            for metric, points in charts_core.metric_lines(told, "average").items():
                if points:
                    load[_LOAD[metric]][name] = points
    return {STATUSES: statuses, **load}
