"""The Mirror tab: what the clients' deployment and the one that gets copies make of requests."""

from __future__ import annotations

from nicegui import ui

from headgate.portal import core, mirror_core
from headgate.portal.attention import every
from headgate.portal.mirror_core import SHOWN_QUANTILES, Side
from headgate.portal.pages.frame import GREY, empty
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

REFRESH_S = 2.0


def draw(session: Session, endpoint: str) -> None:
    """Side by side: how many, with which status, how fast. Since the routers started."""
    place = ui.element("div").classes("many")
    nothing = empty(
        "No copies have been sent.",
        "Mirroring sends a share of live requests to a second deployment as well. Its answers "
        "reach nobody; they are counted and timed here, so that a new version is known before "
        "it gets any traffic. It is set at the foot of the tab Deployments.",
    )
    chart = _chart()

    async def refresh() -> None:
        try:
            sides = mirror_core.sides(await session.client.traffic(endpoint))
        except HeadgateError:
            return
        has_copies = any(side.is_mirror for side in sides)
        nothing.set_visibility(not has_copies)
        chart.set_visibility(has_copies)
        place.set_visibility(has_copies)
        place.clear()
        with place:
            for side in sides:
                _side(side)
        series = [_distribution(side) for side in sides]
        chart.run_chart_method("setOption", {"series": series}, {"replaceMerge": ["series"]})

    every(REFRESH_S, refresh)


def _side(side: Side) -> None:
    with ui.column().classes("lane close"):
        with ui.row().classes("mid"):
            ui.label(side.deployment).classes("text-h6")
            ui.label("copies" if side.is_mirror else "answers clients").classes("quiet")
        with ui.row().classes("spread"):
            figures = [
                (core.short(float(side.requests)), "copies" if side.is_mirror else "requests"),
                (core.short(side.failed_percent, 2), "failed %"),
                *((core.short(side.latency_ms.get(q)), f"{q} ms") for q in SHOWN_QUANTILES),
            ]
            for text, title in figures:
                with ui.column().classes("tight"):
                    ui.label(text).classes("figure")
                    ui.label(title).classes("quiet text-caption")
        told = ", ".join(f"{mirror_core.status_text(s)}: {n}" for s, n in side.statuses.items())
        ui.label(told or "nothing so far").classes("mono wrap")


def _chart() -> ui.echart:
    grid_lines = {"lineStyle": {"opacity": 0.25}}
    axis = {"nameLocation": "middle", "splitLine": grid_lines, "axisLabel": GREY}
    chart = ui.echart(
        {
            "animation": False,
            "tooltip": {"trigger": "axis", "renderMode": "richText"},
            "legend": {"top": 0, "textStyle": GREY},
            "grid": {"left": 56, "right": 16, "top": 40, "bottom": 44},
            "xAxis": {"type": "log", "logBase": 2, "name": "latency, ms", "nameGap": 26, **axis},
            "yAxis": {"type": "value", "min": 0, "name": "% of answers", "nameGap": 36, **axis},
            "series": [],
        }
    )
    chart.style("height: 18rem").classes("lane")
    return chart.props('role=img aria-label="Distributions of latencies, side by side"')


def _distribution(side: Side) -> dict[str, object]:
    return {
        "name": side.title,
        "type": "line",
        "showSymbol": False,
        "areaStyle": {"opacity": 0.2},
        "data": mirror_core.outline(side.histogram),
    }
