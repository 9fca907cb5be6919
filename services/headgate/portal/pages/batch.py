"""Batch: the endpoints that take jobs, and all jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.client.jobs import Jobs
from headgate.portal import batch_core
from headgate.portal.gate import PREFIX
from headgate.portal.pages import new_endpoint
from headgate.portal.pages.frame import Studio, later, link_cell, page
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

REFRESH_S = 2.0
ENDPOINTS_S = 5.0
_JOBS = (
    ("name", "Job"), ("status", "Status"), ("endpoint", "Endpoint"), ("deployment", "Deployment"),
    ("done", "Mini-batches"), ("created", "Created (UTC)"),
)  # fmt: skip
_ENDPOINTS = (("name", "Endpoint"), ("default", "Default deployment"), ("about", "Description"))


def register(studio: Studio) -> None:
    @ui.page("/batch")
    async def batch(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Batch"):
            _endpoints(session)
            ui.element("h2").classes("text-h6")._text = "Jobs"
            jobs_table(Jobs(session.client).list_all)


def _endpoints(session: Session) -> None:
    with ui.row().classes("full-width mid"):
        ui.element("h2").classes("text-h6 q-my-none")._text = "Batch endpoints"
        ui.space()
        if session.right.can_write:
            dialog = new_endpoint.draw(session, new_endpoint.BATCH)
            ui.button("New batch endpoint", icon="add", on_click=dialog.open).props("no-caps")
    empty = ui.column().classes("lane mid q-pa-lg")
    with empty:
        ui.label("There is no batch endpoint yet.").classes("text-h6")
        ui.label(
            "A batch endpoint takes jobs: a deployment behind it goes over many files and writes "
            "one output. Make one, give it a deployment, then start a job on its page."
        ).classes("quiet wrap")
    empty.set_visibility(False)
    columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _ENDPOINTS]
    table = ui.table(columns=columns, rows=[], row_key="name", pagination=10)
    table.classes("full-width").props("flat bordered")
    table.add_slot("body-cell-name", link_cell(f"{PREFIX}/batch/"))

    async def refresh() -> None:
        try:
            found = await session.client.list_batch_endpoints()
        except HeadgateError:
            return
        rows = [
            {
                "name": each.spec.name,
                "default": each.spec.defaults.deployment_name or "none",
                "about": each.spec.description,
            }
            for each in found
        ]
        empty.set_visibility(not rows)
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    later(refresh())
    ui.timer(ENDPOINTS_S, refresh)


def jobs_table(ask: Callable[[], Awaitable[list[dict[str, Any]]]]) -> None:
    """Jobs with their progress, newest first."""
    empty = ui.label("No job yet.").classes("lane quiet")
    empty.set_visibility(False)
    columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _JOBS]
    table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
    table.classes("full-width").props("flat bordered")
    table.add_slot("body-cell-name", link_cell(f"{PREFIX}/jobs/"))

    async def refresh() -> None:
        try:
            rows = [batch_core.job_row(body) for body in await ask()]
        except HeadgateError:
            return
        empty.set_visibility(not rows)
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    later(refresh())
    ui.timer(REFRESH_S, refresh)
