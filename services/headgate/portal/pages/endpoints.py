"""The first page: all online endpoints with what they do now."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import Request
from nicegui import ui

from headgate.client import costs as calls
from headgate.portal import core
from headgate.portal.gate import PREFIX
from headgate.portal.pages import new_endpoint
from headgate.portal.pages.frame import REFRESH_S, Studio, link_cell, page
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

_COLUMNS = (
    ("name", "Endpoint", "left"),
    ("state", "State", "left"),
    ("traffic", "Traffic", "left"),
    ("rps", "Requests/s", "right"),
    ("p95", "p95 ms", "right"),
    ("failures", "Errors/s", "right"),
    ("instances", "Ready", "right"),
    ("cost", "Cost today", "right"),
)
COSTS_S = 30.0


def rows_of(session: Session, costs: Mapping[str, str]) -> list[dict[str, str]]:
    """One row for each endpoint, in figures for people. ``costs``: of this day, by endpoint."""
    view, rows = session.watch.view, []
    for found in view.endpoints:
        name = found.spec.name
        live = view.latest_of(name)
        p95 = [row.p95_ms for row in live if row.p95_ms is not None and row.requests_per_s]
        deployments = view.deployments.get(name, [])
        ready = sum(int(each.properties.get("readyInstances", 0)) for each in deployments)
        wanted = sum(each.spec.instance_count for each in deployments)
        rows.append(
            {
                "name": name,
                "state": found.state,
                "traffic": ", ".join(
                    f"{k} {v}\N{NO-BREAK SPACE}%" for k, v in found.spec.traffic.items() if v
                )
                or "none",
                "rps": core.short(sum(row.requests_per_s for row in live)),
                "p95": core.short(max(p95, default=None)),
                "failures": core.short(sum(row.failures_per_s for row in live), 2),
                "instances": f"{ready} of {wanted}",
                "cost": costs.get(name, core.UNKNOWN),
            }
        )
    return rows


def register(studio: Studio) -> None:
    @ui.page("/")
    async def index(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Online endpoints"):
            with ui.row().classes("full-width mid q-mb-sm"):
                search = ui.input(placeholder="Search").props(
                    'dense outlined clearable aria-label="Search endpoints"'
                )
                ui.space()
                if session.right.can_write:
                    dialog = new_endpoint.draw(session, new_endpoint.ONLINE)
                    ui.button("New endpoint", icon="add", on_click=dialog.open).props("no-caps")
            empty = ui.column().classes("lane mid q-pa-lg")
            with empty:
                ui.label("There is no endpoint yet.").classes("text-h6")
                ui.label(
                    "An endpoint is the stable address that clients score at. Make one, then "
                    "deploy a model to it."
                ).classes("quiet")
            empty.set_visibility(False)
            columns = [
                {"name": key, "label": label, "field": key, "align": align, "sortable": True}
                for key, label, align in _COLUMNS
            ]
            table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
            table.classes("full-width").props("flat bordered")
            table.add_slot("body-cell-name", link_cell(f"{PREFIX}/endpoints/"))
            table.bind_filter_from(search, "value")

            costs: dict[str, str] = {}

            async def look_at_costs() -> None:
                question = {"by": "endpoint", "since": f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}"}
                with contextlib.suppress(HeadgateError):
                    told = await calls.costs(session.client, question)
                    for row in told["rows"]:
                        costs[row["group"]] = f"{row['cost']:.2f} {told['currency']}"

            def refresh() -> None:
                view = session.watch.view
                rows = rows_of(session, costs)
                empty.set_visibility(view.loaded and not rows)
                table.set_visibility(bool(rows))
                if rows != table.rows:
                    table.rows = rows

            refresh()
            ui.timer(REFRESH_S, refresh)
            ui.timer(COSTS_S, look_at_costs, immediate=True)
