"""Live charts of an endpoint: requests, errors, latency, load, and instances with what
the autoscaler changed."""

from __future__ import annotations

import json
from typing import Any

from nicegui import ui

from headgate.client.autoscale import Autoscale
from headgate.portal import autoscale_core, charts_core
from headgate.portal.attention import every
from headgate.portal.pages import metric_charts
from headgate.portal.pages.frame import heading
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError

CHART_S = 2.0
DECISIONS_S = 5.0
DECISIONS_FRESH_S = 2.5  # another page's answer is as good
MARKS_MAX = 50
REASONS_MAX = 10
_INSTANCES = "Ready instances"
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
    with ui.column().classes("full-width lane close") as changes:
        heading("Why the instances changed (UTC)")
        reasons = ui.label().classes("mono wrap").props("role=status")
    changes.set_visibility(False)

    async def look_at_decisions() -> None:
        try:
            decided = await session.watch.answers.get(
                ("decisions", endpoint),
                DECISIONS_FRESH_S,
                lambda: Autoscale(session.client).decisions(endpoint, "", "15m", MARKS_MAX),
            )
        except HeadgateError:
            return
        marks[:] = autoscale_core.marks(decided, since=0.0)
        reasons.set_text("\n".join(map(autoscale_core.mark_text, marks[:REASONS_MAX])))
        changes.set_visibility(bool(marks))

    sent_until = [0.0]

    def refresh() -> None:
        """Send what has come since."""
        rows = {
            deployment: series.since(sent_until[0])
            for (name, deployment), series in sorted(session.watch.view.rates.items())
            if name == endpoint
        }
        told = {
            chart.id: {
                "lines": charts_core.points(rows, values),
                "marks": marks if title == _INSTANCES else None,
            }
            for title, chart, values in drawn
        }
        sent_until[0] = max([sent_until[0], *(new[-1].at for new in rows.values() if new)])
        ui.run_javascript(f"extendCharts({json.dumps(told)}, {limits.STUDIO_POINTS_MAX})")

    async def look_at_metrics() -> None:
        found = await session.watch.answers.get(
            ("metrics", endpoint),
            metric_charts.FRESH_S,
            lambda: metric_charts.look(session, endpoint),
        )
        told = {
            of_hour[each].id: {"lines": lines, "isStacked": each == metric_charts.STATUSES}
            for each, lines in found.items()
        }
        ui.run_javascript(f"drawCharts({json.dumps(told)})")

    every(CHART_S, refresh)
    every(metric_charts.REFRESH_S, look_at_metrics)
    every(DECISIONS_S, look_at_decisions)


def _chart(title: str, unit: str) -> ui.echart:
    """Empty: what it shows, and how, is in the browser alone; here it would be kept for each page,
    in dictionaries that watch for changes."""
    chart = ui.echart({}).style("height: 15rem").classes("lane")
    chart.props(f'data-title="{title} ({unit})"')
    return chart.props(f'role=img aria-label="{title}, {unit}, by deployment"')
