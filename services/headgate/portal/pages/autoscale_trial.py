"""What an autoscale setting would do: the profiles of a week, and the last day simulated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from headgate.client import metrics
from headgate.client.autoscale import Autoscale
from headgate.portal import autoscale_core as decide
from headgate.portal.pages.frame import GREY, guarded, heading
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts.autoscale import AutoscaleSpec, Weekday
from headgate_contracts.errors import HeadgateError

DAY_S = 86_400.0
_SERVICE_S = 0.1
_COLUMNS = (("at", "After"), ("counts", "Instances"), ("message", "Why"))
_COLORS = ("#8886", "#3b82d6", "#2e7d4f", "#e08600", "#8e44ad", "#c2185b", "#00897b", "#6d4c41")


class Trial:
    """Below the editor. ``read`` gives the setting as it stands there, saved or not."""

    def __init__(self, session: Session, endpoint: str, read: Callable[[], AutoscaleSpec]) -> None:
        self._session = session
        self._endpoint = endpoint
        self._read = read
        self._autoscale = Autoscale(session.client)
        heading("Week (UTC)")
        self._week = ui.column().classes("full-width tight")
        heading("What it would have made of the last day")
        with ui.row().classes("full-width mid"):
            self._times = ui.number("Load, times", value=1, min=0.01).style("width: 7rem")
            self._service = ui.number("Seconds per request; as measured", min=0.001)
            self._service.props("clearable").style("width: 17rem")
            self._startup = ui.number("Seconds to start", value=5, min=0).style("width: 9rem")
            ui.button("Simulate", icon="play_arrow", on_click=guarded(self._simulate)).props(
                "no-caps outline"
            )
        self._outcome = ui.label().classes("wrap").props("role=status")
        self._chart = ui.echart(_options()).style("height: 16rem").classes("lane full-width")
        self._chart.props('role=img aria-label="Simulated requests and instances"')
        self._table = table(_COLUMNS, key="key", rows_per_page=10)
        self._chart.set_visibility(False)
        self._table.set_visibility(False)

    async def show_week(self) -> None:
        """Which profile is in force when, as the autoscaler itself says it."""
        calm = {"load": [{"at_s": 0, "requests_per_s": 0}], "durationS": 10}
        try:
            told = await self._autoscale.simulate(self._read(), {**calm, "startsAt": _now()})
        except HeadgateError as error:
            self._week.clear()
            with self._week:
                ui.label(error.error.message).classes("quiet wrap")
            return
        names = list(dict.fromkeys(told["week"]))
        self._week.clear()
        with self._week:
            for day, spans in zip(Weekday, decide.spans(told["week"]), strict=True):
                with ui.row().classes("full-width mid no-wrap close"):
                    ui.label(day.value[:3]).classes("mono").style("width: 2.5rem")
                    for name, hours in spans:
                        color = _COLORS[names.index(name) % len(_COLORS)]
                        cell = ui.label(name or "none").classes("span")
                        cell.style(f"flex: {hours} 0 0; background: {color}")
                        cell.props(f'title="{hours} hours"')

    async def _simulate(self) -> None:
        spec, began = self._read(), _now() - DAY_S
        deployed = await self._session.client.get_deployment(spec.endpoint, spec.deployment)
        load, latency_s = await self._last_day(spec.deployment, began)
        is_measured = bool(load)
        times = float(self._times.value or 1)
        load = load or decide.wave(decide.WAVE_PEAK)
        scaled = [{**p, "requests_per_s": p["requests_per_s"] * times} for p in load]
        trial = {
            "load": scaled, "durationS": DAY_S, "startsAt": began,
            "serviceS": float(self._service.value or latency_s or _SERVICE_S),
            "startupS": float(self._startup.value or 0),
        }  # fmt: skip
        told = await self._autoscale.simulate(spec, trial)
        text = decide.outcome(told, DAY_S / 3600, deployed.spec.instance_count)
        made_up = "No request was measured on the last day; a made-up day instead. "
        self._outcome.set_text(text if is_measured else made_up + text)
        self._table.rows = [decide.change_row(each) for each in told["decisions"]]
        self._table.set_visibility(True)
        self._chart.set_visibility(True)
        self._chart.run_chart_method("setOption", {"series": _series(told["moments"], began)})

    async def _last_day(
        self, deployment: str, began: float
    ) -> tuple[list[dict[str, float]], float | None]:
        """The load as it was measured, and the mean seconds of a request."""
        asked = {"timespan": "P1D", "interval": "PT1M", "aggregation": "total"}
        client = self._session.client
        counts = await metrics.query(
            client, self._endpoint, deployment, {**asked, "metricnames": "RequestsPerMinute"}
        )
        asked |= {
            "interval": "FULL", "aggregation": "average", "metricnames": "RequestLatency",
            "$filter": f"deployment eq '{deployment}'",
        }  # fmt: skip
        slow = await metrics.query(client, self._endpoint, "", asked)
        values = [
            float(point["average"])
            for metric in slow
            for series in metric.get("timeseries") or ()
            for point in series.get("data") or ()
            if point.get("average")
        ]
        return decide.measured_load(counts, began), values[0] / 1000 if values else None


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _series(moments: list[dict[str, Any]], began: float) -> list[dict[str, Any]]:
    def line(name: str, key: str, **more: Any) -> dict[str, Any]:
        data = [[1000 * (began + each["at_s"]), each[key]] for each in moments]
        return {"name": name, "type": "line", "showSymbol": False, "data": data, **more}

    return [
        line("requests/s", "requests_per_s"),
        line("instances", "instances", yAxisIndex=1, step="end"),
    ]


def _options() -> dict[str, Any]:
    axis: dict[str, Any] = {
        "type": "value", "min": 0, "axisLabel": GREY, "splitLine": {"lineStyle": {"opacity": 0.2}},
    }  # fmt: skip
    return {
        "animation": False,
        "useUTC": True,
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "legend": {"top": 0, "textStyle": GREY},
        "grid": {"left": 48, "right": 40, "top": 32, "bottom": 28},
        "xAxis": {"type": "time", "axisLabel": GREY, "splitLine": {"show": False}},
        "yAxis": [axis, {**axis, "minInterval": 1, "splitLine": {"show": False}}],
        "series": [],
    }
