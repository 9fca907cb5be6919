"""Costs: by endpoint and by day, and the budgets that watch over them."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.client import costs as calls
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.pages import budgets
from headgate.portal.pages.frame import GREY, Studio, page, tell
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

_GROUPS = {
    "endpoint": "Endpoint", "deployment": "Deployment", "day": "Day", "key": "Key", "tag": "Tag",
    "job": "Job",
}  # fmt: skip
_OF_ENDPOINT = {"day": "Day", "deployment": "Deployment", "key": "Key"}
_SPANS = {"24h": "1 day", "7d": "7 days", "30d": "30 days"}
_NUMBERS = {
    "cost": "Cost", "hours": "Instance hours", "node_hours": "Node hours", "requests": "Requests",
    "compute": "Compute s",
}  # fmt: skip


def register(studio: Studio) -> None:
    @ui.page("/costs")
    async def costs(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Costs"):
            draw(session)
            budgets.draw(session)


def draw(session: Session, endpoint: str = "") -> None:
    """Costs of everything, or of one endpoint."""
    groups = _OF_ENDPOINT if endpoint else _GROUPS
    with ui.row().classes("full-width mid"):
        by = ui.select(groups, value=next(iter(groups)), label="By").style("min-width: 9rem")
        span = ui.select(_SPANS, value="30d", label="Over").style("min-width: 9rem")
        total = ui.label().classes("figure").props("role=status")
    chart = ui.echart(_options()).style("height: 16rem").classes("lane full-width")
    chart.props('role=img aria-label="Costs by group"')
    listed = table([("group", groups[by.value]), *_NUMBERS.items()], key="group", numbers=_NUMBERS)
    listed.props('no-data-label="Nothing has cost anything in this time."')

    async def refresh() -> None:
        try:
            told = await calls.costs(
                session.client,
                {"by": by.value, "since": span.value, "endpoint": endpoint},
            )
        except HeadgateError as error:
            tell(error)
            return
        rows = [core.cost_row(row) for row in told["rows"]]
        listed.columns[0]["label"] = groups[by.value]
        listed.rows = rows
        total.set_text(f"{told['total']['cost']:.2f} {told['currency']}")
        names = [row["group"] for row in rows]
        values = [round(row["cost"], 4) for row in told["rows"]]
        chart.options["xAxis"]["data"] = names
        chart.options["series"] = [{"type": "bar", "data": values, "barMaxWidth": 96}]

    by.on_value_change(refresh)
    span.on_value_change(refresh)
    every(30.0, refresh)


def _options() -> dict[str, Any]:
    return {
        "animation": False,
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "grid": {"left": 64, "right": 16, "top": 24, "bottom": 40},
        "xAxis": {"type": "category", "data": [], "axisLabel": {"hideOverlap": True, **GREY}},
        "yAxis": {
            "type": "value",
            "min": 0,
            "axisLabel": GREY,
            "splitLine": {"lineStyle": {"opacity": 0.25}},
        },
        "series": [],
    }
