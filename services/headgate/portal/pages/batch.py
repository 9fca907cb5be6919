"""Batch: the endpoints that take jobs, and all jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.client.jobs import Jobs
from headgate.portal import batch_core
from headgate.portal.attention import every
from headgate.portal.gate import PREFIX
from headgate.portal.pages import new_endpoint
from headgate.portal.pages.frame import Studio, empty, heading, link_cell, page
from headgate.portal.pages.tables import table
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
            heading("Jobs")
            jobs_table(Jobs(session.client).list_all)


def _endpoints(session: Session) -> None:
    with ui.row().classes("full-width mid"):
        heading("Batch endpoints")
        ui.space()
        if session.right.can_write:
            ask = partial(new_endpoint.ask, session, new_endpoint.BATCH)
            ui.button("New batch endpoint", icon="add", on_click=ask).props("no-caps")
    nothing = empty(
        "There is no batch endpoint yet.",
        "A batch endpoint takes jobs: a deployment behind it goes over many files and writes "
        "one output. Make one, give it a deployment, then start a job on its page.",
    )
    nothing.set_visibility(False)
    listed = table(_ENDPOINTS, rows_per_page=10).props(remove="dense")
    listed.add_slot("body-cell-name", link_cell(f"{PREFIX}/batch/"))

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
        nothing.set_visibility(not rows)
        listed.set_visibility(bool(rows))
        if rows != listed.rows:
            listed.rows = rows

    every(ENDPOINTS_S, refresh)


def jobs_table(ask: Callable[[], Awaitable[list[dict[str, Any]]]]) -> None:
    """Jobs with their progress, newest first."""
    nothing = empty("No job yet.", "A job is started on the page of a batch endpoint, New job.")
    nothing.set_visibility(False)
    listed = table(_JOBS).props(remove="dense")
    listed.add_slot("body-cell-name", link_cell(f"{PREFIX}/jobs/"))

    async def refresh() -> None:
        try:
            rows = [batch_core.job_row(body) for body in await ask()]
        except HeadgateError:
            return
        nothing.set_visibility(not rows)
        listed.set_visibility(bool(rows))
        if rows != listed.rows:
            listed.rows = rows

    every(REFRESH_S, refresh)
