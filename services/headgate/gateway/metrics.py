"""Metrics in the form of Azure Monitor's REST API (``Microsoft.Insights/metrics``)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from aiohttp import web

from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, plain
from headgate.azure.arm_fields import Json, read_duration
from headgate.azure.arm_ids import LOCATION, PROVIDER
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.metrics import (
    DEPLOYMENT,
    ENDPOINT,
    Metric,
    MetricSeries,
    MetricsReply,
    QueryMetrics,
    Series,
)

_ENDPOINT = f"{WORKSPACE}/onlineEndpoints/{{endpoint}}"
_DEPLOYMENT = f"{_ENDPOINT}/deployments/{{deployment}}"
_INSIGHTS = "providers/Microsoft.Insights"
_SPAN_DEFAULT_S = 3_600
_NAMES_MAX = limits.METRICS_PER_QUERY_MAX
_NS_PER_S = 1_000_000_000
_CLAUSE = re.compile(r"\s*(\w+)\s+eq\s+'([^']{0,128})'\s*\Z", re.ASCII | re.IGNORECASE)
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_FIGURES = ("average", "minimum", "maximum", "total", "count")

_NAME = plain(value=TEXT, localizedValue=TEXT)
_DATA: Json = {
    "type": "object",
    "properties": {"timeStamp": TIME, **{name: {"type": "number"} for name in _FIGURES}},
    "required": ["timeStamp"],
    "additionalProperties": False,
}
_SERIES = plain(
    metadatavalues={"type": "array", "items": plain(name=_NAME, value=TEXT)},
    data={"type": "array", "items": _DATA},
)
_METRIC = plain(
    "MetricValues",
    id=TEXT,
    type=TEXT,
    name=_NAME,
    displayDescription=TEXT,
    unit=TEXT,
    timeseries={"type": "array", "items": _SERIES},
    errorCode=TEXT,
)
_METRICS = plain(
    "Metrics",
    cost=COUNT,
    timespan=TEXT,
    interval=TEXT,
    namespace=TEXT,
    resourceregion=TEXT,
    value={"type": "array", "items": _METRIC},
)
_DEFINITION = plain(
    "MetricDefinition",
    id=TEXT,
    resourceId=TEXT,
    namespace=TEXT,
    name=_NAME,
    displayDescription=TEXT,
    unit=TEXT,
    primaryAggregationType=TEXT,
    supportedAggregationTypes={"type": "array", "items": TEXT},
    metricAvailabilities={"type": "array", "items": plain(timeGrain=TEXT, retention=TEXT)},
    dimensions={"type": "array", "items": _NAME},
)


class Metrics:
    """Handlers of metrics and their definitions."""

    def __init__(self, backend: Backend, days: float) -> None:
        self._backend = backend
        self._retention = f"P{days:g}D"

    async def query(self, call: Call) -> web.StreamResponse:
        """Metrics outlive what they tell of: without any, it must at least be there."""
        asked = call.query
        since, until = read_timespan(asked.get("timespan", ""), self._backend.clock.now())
        interval_s = _interval(asked.get("interval", "PT1M"), until - since)
        splits, only = read_filter(asked.get("$filter", ""))
        names = [name for name in asked.get("metricnames", "").split(",") if name.strip()]
        if not names:
            names = [_known(call)[0].name]  # as Azure does
        figures = _figures(asked.get("aggregation", ""))
        query = QueryMetrics(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            deployment=call.params.get("deployment", ""),
            names=tuple(name.strip() for name in names[:_NAMES_MAX]),
            since=since,
            until=until,
            interval_s=interval_s,
            splits=splits,
            only=only,
        )
        reply = await self._backend.ask(query, MetricsReply)
        if not any(each.series for each in reply.metrics):
            await (self._backend.deployment if query.deployment else self._backend.endpoint)(call)
        identifier = _resource_id(call)
        return answer(
            {
                "cost": 0,
                "timespan": f"{timestamp(since)}/{timestamp(until)}",
                "interval": asked.get("interval", "PT1M"),
                "namespace": _namespace(call),
                "resourceregion": LOCATION,
                "value": [_values(each, identifier, figures) for each in reply.metrics],
            }
        )

    async def definitions(self, call: Call) -> web.StreamResponse:
        about = {"resourceId": _resource_id(call), "namespace": _namespace(call)}
        found = [_definition(each, about, self._retention) for each in _known(call)]
        return answer(page(found))

    def routes(self) -> tuple[Route[Handle], ...]:
        return (*self._of(_ENDPOINT, "an endpoint"), *self._of(_DEPLOYMENT, "a deployment"))

    def _of(self, path: str, what: str) -> tuple[Route[Handle], ...]:
        query = ("timespan", "interval", "metricnames", "aggregation", "$filter")
        more = ("metricnamespace", "top", "orderby", "resultType", "AutoAdjustTimegrain")
        return (
            Route(
                "GET",
                f"{path}/{_INSIGHTS}/metrics",
                self.query,
                f"Read metrics of {what}",
                query=(*query, *more),
                reply=_METRICS,
            ),
            Route(
                "GET",
                f"{path}/{_INSIGHTS}/metricDefinitions",
                self.definitions,
                f"List the metrics of {what}",
                reply=list_of(_DEFINITION),
            ),
        )


def read_timespan(text: str, now: float) -> tuple[float, float]:
    """``<from>/<until>`` (RFC 3339), ``PT1H`` (until now), or nothing: the last hour."""
    if not text:
        return now - _SPAN_DEFAULT_S, now
    begin, slash, end = text.partition("/")
    try:
        if not slash:
            return now - read_duration(text) / _NS_PER_S, now
        since, until = _time(begin), _time(end)
    except ValueError:
        since, until = 1.0, 0.0
    if since >= until:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "timespan is <from>/<until>, such as 2030-01-31T12:00:00Z/2030-01-31T13:00:00Z, "
            "or a duration until now, such as PT1H",
            target="timespan",
        )
    return since, until


def _time(text: str) -> float:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at.timestamp()


def _interval(text: str, span_s: float) -> int:
    """Whole minutes; ``FULL`` is the whole time in one."""
    if text.upper() == "FULL":
        return min(86_400, max(60, -(-int(span_s) // 60) * 60))
    try:
        seconds = read_duration(text) / _NS_PER_S
    except ValueError:
        seconds = 0
    if not 60 <= seconds <= 86_400 or seconds % 60:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "interval is whole minutes up to a day, such as PT1M, PT5M, PT1H or P1D",
            target="interval",
        )
    return int(seconds)


def read_filter(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """``deployment eq 'blue' and statusCode eq '*'``: what is split, and what is kept."""
    splits: list[str] = []
    only: dict[str, str] = {}
    for clause in _AND.split(text) if text.strip() else ():
        match = _CLAUSE.match(clause)
        if match is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "$filter is made of <dimension> eq '<value>' joined by 'and'; '*' splits",
                target="$filter",
            )
        splits.append(match[1])
        if match[2] != "*":
            only[match[1]] = match[2]
    return tuple(dict.fromkeys(splits)), only


def _figures(text: str) -> tuple[str, ...]:
    """Which figures are wanted; without a word the average."""
    named = [name.strip().lower() for name in text.split(",") if name.strip()] or ["average"]
    if unknown := [name for name in named if name not in _FIGURES]:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"aggregation {unknown[0][:40]!r} is none of {', '.join(_FIGURES)}",
            target="aggregation",
        )
    return tuple(named)


def _known(call: Call) -> tuple[Metric, ...]:
    return DEPLOYMENT if "deployment" in call.params else ENDPOINT


def _resource_id(call: Call) -> str:
    endpoint = f"{call.context.workspace_id}/onlineEndpoints/{call.params['endpoint']}"
    deployment = call.params.get("deployment")
    return f"{endpoint}/deployments/{deployment}" if deployment else endpoint


def _namespace(call: Call) -> str:
    kind = "/deployments" if "deployment" in call.params else ""
    return f"{PROVIDER}/workspaces/onlineEndpoints{kind}"


def _named(name: str) -> Json:
    return {"value": name, "localizedValue": name}


def _values(found: MetricSeries, resource: str, figures: tuple[str, ...]) -> Json:
    metric = found.metric
    return {
        "id": f"{resource}/{_INSIGHTS}/metrics/{metric.name}",
        "type": "Microsoft.Insights/metrics",
        "name": _named(metric.name),
        "displayDescription": metric.description,
        "unit": metric.unit,
        "timeseries": [_series(each, figures) for each in found.series],
        "errorCode": "Success",
    }


def _series(series: Series, figures: tuple[str, ...]) -> Json:
    points: list[dict[str, Any]] = [point.model_dump() for point in series.points]
    return {
        "metadatavalues": [
            {"name": _named(name), "value": value} for name, value in series.dimensions.items()
        ],
        "data": [
            {"timeStamp": timestamp(point["at"]), **{name: point[name] for name in figures}}
            for point in points
        ],
    }


def _definition(metric: Metric, about: Json, retention: str) -> Json:
    return {
        "id": f"{about['resourceId']}/{_INSIGHTS}/metricDefinitions/{metric.name}",
        **about,
        "name": _named(metric.name),
        "displayDescription": metric.description,
        "unit": metric.unit,
        "primaryAggregationType": metric.aggregation,
        "supportedAggregationTypes": ["Average", "Minimum", "Maximum", "Total", "Count"],
        "metricAvailabilities": [{"timeGrain": "PT1M", "retention": retention}],
        "dimensions": [_named(name) for name in metric.dimensions],
    }
