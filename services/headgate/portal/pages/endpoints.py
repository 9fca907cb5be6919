"""The first page: all online endpoints with what they do now."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from fastapi import Request
from nicegui import ui

from headgate.client import costs as calls
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.gate import PREFIX
from headgate.portal.pages import new_endpoint
from headgate.portal.pages.frame import REFRESH_S, Studio, empty, link_cell, page
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

_WORDS = (("name", "Endpoint"), ("state", "State"), ("traffic", "Traffic"))
_NUMBERS = {
    "rps": "Requests/s", "p95": "p95 ms", "failures": "Errors/s", "instances": "Ready",
    "cost": "Cost today",
}  # fmt: skip
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
            with ui.row().classes("full-width mid"):
                search = ui.input(placeholder="Search").props(
                    'dense outlined clearable aria-label="Search endpoints"'
                )
                ui.space()
                if session.right.can_write:
                    ask = partial(new_endpoint.ask, session, new_endpoint.ONLINE)
                    ui.button("New endpoint", icon="add", on_click=ask).props("no-caps")
            nothing = empty(
                "There is no endpoint yet.",
                "An endpoint is the stable address that clients score at. Make one, then deploy "
                "a model to it.",
            )
            nothing.set_visibility(False)
            listed = table([*_WORDS, *_NUMBERS.items()], numbers=_NUMBERS, is_sortable=True)
            listed.props(remove="dense")
            listed.add_slot("body-cell-name", link_cell(f"{PREFIX}/endpoints/"))
            listed.bind_filter_from(search, "value")

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
                nothing.set_visibility(view.loaded and not rows)
                listed.set_visibility(bool(rows))
                if rows != listed.rows:
                    listed.rows = rows

            refresh()
            every(REFRESH_S, refresh)
            every(COSTS_S, look_at_costs)
