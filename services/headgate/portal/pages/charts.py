"""Live charts of an endpoint: requests, errors, latency, load, and instances with what
the autoscaler changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from headgate.client.autoscale import Autoscale
from headgate.portal import autoscale_core, charts_core
from headgate.portal.pages import metric_charts
from headgate.portal.pages.frame import GREY
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError

CHART_S = 2.0
DECISIONS_S = 5.0
MARKS_MAX = 50
REASONS_MAX = 10
_INSTANCES = "Ready instances"
_BARS = {"type": "bar", "stack": "all"}
# title, unit, what is drawn of each deployment (name, value)
_CHARTS: tuple[tuple[str, str, charts_core.Values], ...] = (
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
        of_hour = {
            each: _chart(*each)
            for each in (metric_charts.STATUSES, metric_charts.CPU, metric_charts.MEMORY)
        }

    marks: list[dict[str, Any]] = []
    with ui.column().classes("full-width lane close q-mt-md") as changes:
        ui.element("h2").classes("text-h6 q-my-none")._text = "Why the instances changed (UTC)"
        reasons = ui.label().classes("mono wrap").props("role=status")
    changes.set_visibility(False)

    async def look_at_decisions() -> None:
        try:
            decided = await Autoscale(session.client).decisions(endpoint, "", "15m", MARKS_MAX)
        except HeadgateError:
            return
        marks[:] = autoscale_core.marks(decided, since=0.0)
        reasons.set_text("\n".join(map(autoscale_core.mark_text, marks[:REASONS_MAX])))
        changes.set_visibility(bool(marks))

    sent_until = [0.0]

    def refresh() -> None:
        """Send what has come since."""
        rows = {
            deployment: list(rows)
            for (name, deployment), rows in sorted(session.watch.view.rates.items())
            if name == endpoint
        }
        told = {
            chart.id: {
                "lines": charts_core.new_points(rows, values, since=sent_until[0]),
                "marks": marks if title == _INSTANCES else None,
            }
            for title, chart, values in drawn
        }
        sent_until[0] = max((each[-1].at for each in rows.values() if each), default=0.0)
        ui.run_javascript(f"extendCharts({json.dumps(told)}, {limits.STUDIO_POINTS_MAX})")

    async def look_at_metrics() -> None:
        for each, lines in (await metric_charts.look(session, endpoint)).items():
            more = _BARS if each == metric_charts.STATUSES else {}
            series = [_line(name, points) | more for name, points in lines.items()]
            if series != of_hour[each].options["series"]:
                of_hour[each].options["series"] = series

    ui.timer(CHART_S, refresh)
    ui.timer(metric_charts.REFRESH_S, look_at_metrics, immediate=True)
    ui.timer(DECISIONS_S, look_at_decisions, immediate=True)


def _chart(title: str, unit: str) -> ui.echart:
    options: dict[str, Any] = {
        "animation": False,
        "useUTC": True,
        "title": {"text": f"{title} ({unit})", "textStyle": {"fontSize": 14, **GREY}},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "legend": {"top": 24, "type": "scroll", "textStyle": GREY},
        "grid": {"left": 48, "right": 16, "top": 66, "bottom": 28},
        "xAxis": {
            "type": "time",
            "splitLine": {"show": False},
            "axisLabel": {"hideOverlap": True, "formatter": "{HH}:{mm}:{ss}", **GREY},
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "axisLabel": GREY,
            "splitLine": {"lineStyle": {"opacity": 0.25}},
        },
        "series": [],
    }
    chart = ui.echart(options).style("height: 15rem").classes("lane")
    return chart.props(f'role=img aria-label="{title}, {unit}, by deployment"')


def _line(name: str, points: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    return {"name": name, "type": "line", "showSymbol": False, "data": points}
