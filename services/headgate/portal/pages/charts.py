"""Live charts of an endpoint: requests, errors, latency, load, and instances with what
the autoscaler changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from headgate.client.autoscale import Autoscale
from headgate.portal import autoscale_core
from headgate.portal.core import Live
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

CHART_S = 2.0
DECISIONS_S = 5.0
MARKS_MAX = 50
_INSTANCES = "Ready instances"
Value = Callable[[Live], float | None]
# title, unit, what is drawn of each deployment (name, value)
_CHARTS: tuple[tuple[str, str, tuple[tuple[str, Value], ...]], ...] = (
    ("Requests", "per second", (("", lambda row: row.requests_per_s),)),
    ("Errors", "per second", (("", lambda row: row.failures_per_s),)),
    (
        "Latency",
        "ms",
        (("p50", lambda row: row.p50_ms), ("p95", lambda row: row.p95_ms),
         ("p99", lambda row: row.p99_ms)),
    ),
    (
        "In flight and waiting",
        "requests",
        (("in flight", lambda row: float(row.in_flight)),
         ("waiting", lambda row: float(row.waiting))),
    ),
    (_INSTANCES, "instances", (("", lambda row: float(row.ready)),)),
    ("Mirrored copies", "per second", (("", lambda row: row.mirrored_per_s),)),
)  # fmt: skip


def draw(session: Session, endpoint: str) -> None:
    """One chart for each figure, one line for each deployment."""
    with (
        ui.element("div")
        .style(
            "display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr))"
        )
        .classes("full-width")
    ):
        drawn = [(title, _chart(title, unit), values) for title, unit, values in _CHARTS]

    marks: list[dict[str, Any]] = []

    async def look_at_decisions() -> None:
        try:
            decided = await Autoscale(session.client).decisions(endpoint, "", "15m", MARKS_MAX)
        except HeadgateError:
            return
        marks[:] = autoscale_core.marks(decided, since=0.0)

    def refresh() -> None:
        series = {
            deployment: list(rows)
            for (name, deployment), rows in sorted(session.watch.view.rates.items())
            if name == endpoint
        }
        for title, chart, values in drawn:
            lines = _lines(series, values)
            if title == _INSTANCES and lines:
                lines[0]["markLine"] = {"symbol": "none", "silent": True, "data": marks}
            chart.run_chart_method("setOption", {"series": lines, "legend": {"show": bool(lines)}})

    ui.timer(CHART_S, refresh)
    ui.timer(DECISIONS_S, look_at_decisions, immediate=True)


def _chart(title: str, unit: str) -> ui.echart:
    options: dict[str, Any] = {
        "animation": False,
        "title": {"text": f"{title} ({unit})", "textStyle": {"fontSize": 14, "color": "#888"}},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "legend": {"top": 24, "type": "scroll", "textStyle": {"color": "#888"}},
        "grid": {"left": 48, "right": 16, "top": 56, "bottom": 28},
        "xAxis": {
            "type": "time",
            "splitLine": {"show": False},
            "axisLabel": {"hideOverlap": True, "formatter": "{HH}:{mm}:{ss}"},
        },
        "yAxis": {"type": "value", "min": 0, "splitLine": {"lineStyle": {"opacity": 0.25}}},
        "series": [],
    }
    chart = ui.echart(options).style("height: 15rem").classes("lane")
    return chart.props(f'role=img aria-label="{title}, {unit}, by deployment"')


def _lines(
    series: dict[str, list[Live]], values: tuple[tuple[str, Value], ...]
) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{deployment} {name}".strip(),
            "type": "line",
            "showSymbol": False,
            "data": [[1000 * row.at, value(row)] for row in rows],
        }
        for deployment, rows in series.items()
        for name, value in values
    ]
