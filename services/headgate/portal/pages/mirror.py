"""The Mirror tab: what the clients' deployment and the one that gets copies make of requests."""

from __future__ import annotations

from nicegui import ui

from headgate.portal import core
from headgate.portal.core import Side
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

REFRESH_S = 2.0


def draw(session: Session, endpoint: str) -> None:
    """Side by side: how many, with which status, how fast. Since the routers started."""
    place = ui.element("div").classes("many")
    empty = ui.column().classes("lane mid q-pa-lg")
    with empty:
        ui.label("No copies have been sent.").classes("text-h6")
        ui.label(
            "Mirroring sends a share of live requests to a second deployment as well. Its answers "
            "reach nobody; they are counted and timed here, so that a new version is known before "
            "it gets any traffic. It is set at the foot of the tab Deployments."
        ).classes("quiet")
    chart = _chart()

    async def refresh() -> None:
        try:
            sides = core.sides(await session.client.traffic(endpoint))
        except HeadgateError:
            return
        has_copies = any(side.is_mirror for side in sides)
        empty.set_visibility(not has_copies)
        chart.set_visibility(has_copies)
        place.set_visibility(has_copies)
        place.clear()
        with place:
            for side in sides:
                _side(side)
        chart.run_chart_method("setOption", {"series": [_bars(side) for side in sides]})

    ui.timer(REFRESH_S, refresh, immediate=True)


def _side(side: Side) -> None:
    with ui.column().classes("lane close"):
        with ui.row().classes("mid"):
            ui.label(side.deployment).classes("text-h6")
            ui.label("copies" if side.is_mirror else "answers clients").classes("quiet")
        with ui.row().classes("spread"):
            figures = [
                (core.short(float(side.requests)), "copies" if side.is_mirror else "requests"),
                (core.short(side.failed_percent, 2), "failed %"),
                *((core.short(side.latency_ms.get(q)), f"{q} ms") for q in core.SHOWN_QUANTILES),
            ]
            for text, title in figures:
                with ui.column().classes("tight"):
                    ui.label(text).classes("figure")
                    ui.label(title).classes("quiet text-caption")
        told = ", ".join(f"{core.status_text(s)}: {n}" for s, n in side.statuses.items())
        ui.label(told or "nothing so far").classes("mono wrap")


def _chart() -> ui.echart:
    chart = ui.echart(
        {
            "animation": False,
            "tooltip": {"trigger": "axis", "renderMode": "richText"},
            "legend": {"top": 0, "textStyle": {"color": "#888"}},
            "grid": {"left": 56, "right": 16, "top": 40, "bottom": 28},
            "xAxis": {"type": "category", "data": list(core.SHOWN_QUANTILES)},
            "yAxis": {"type": "value", "name": "ms", "splitLine": {"lineStyle": {"opacity": 0.25}}},
            "series": [],
        }
    )
    chart.style("height: 16rem").classes("lane q-mt-md")
    return chart.props('role=img aria-label="Latency quantiles, side by side"')


def _bars(side: Side) -> dict[str, object]:
    name = f"{side.deployment} (copies)" if side.is_mirror else side.deployment
    values = [side.latency_ms.get(quantile) for quantile in core.SHOWN_QUANTILES]
    return {"name": name, "type": "bar", "data": values}
