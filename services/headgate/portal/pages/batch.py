"""Batch: endpoints and jobs, and the page of one job from its start to its output."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.client.jobs import Jobs
from headgate.portal import core
from headgate.portal.gate import PREFIX
from headgate.portal.pages.frame import Studio, guarded, later, page
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

REFRESH_S = 2.0
_JOB_LINK = f"""
<q-td :props="props"><a :href="'{PREFIX}/jobs/' + props.value">{{{{ props.value }}}}</a></q-td>
"""
_JOBS = (
    ("name", "Job"), ("status", "Status"), ("endpoint", "Endpoint"), ("deployment", "Deployment"),
    ("done", "Mini-batches"), ("created", "Created"),
)  # fmt: skip
_LETTERS = (("number", "Mini-batch"), ("items", "Items"), ("attempts", "Attempts"),
            ("error", "Error"))  # fmt: skip
_FIGURES = {
    "items": "Items", "succeededItems": "Succeeded", "failedItems": "Failed", "rows": "Rows",
    "retries": "Retries", "nodes": "Nodes", "miniBatchesPerSecond": "Mini-batches/s",
    "secondsLeft": "Seconds left",
}  # fmt: skip


def register(studio: Studio) -> None:
    @ui.page("/batch")
    async def batch(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Batch jobs"):
            _jobs(session)

    @ui.page("/jobs/{name}")
    async def job(request: Request, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=("Batch jobs", "/batch")):
            JobPage(session, name).draw()


def _jobs(session: Session) -> None:
    empty = ui.column().classes("lane mid q-pa-lg")
    with empty:
        ui.label("No batch job yet.").classes("text-h6")
        ui.label(
            "A job runs a deployment of a batch endpoint over many files. From a terminal: "
            "headgate batch-endpoint invoke -n <endpoint> --input <folder>"
        ).classes("quiet wrap")
    empty.set_visibility(False)
    columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _JOBS]
    table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
    table.classes("full-width").props("flat bordered")
    table.add_slot("body-cell-name", _JOB_LINK)

    async def refresh() -> None:
        try:
            rows = [core.job_row(body) for body in await Jobs(session.client).list_all()]
        except HeadgateError:
            return
        empty.set_visibility(not rows)
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    later(refresh())
    ui.timer(REFRESH_S, refresh)


class JobPage:
    """One job, looked at again and again until it has ended."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._jobs = Jobs(session.client)
        self._output = ""

    def draw(self) -> None:
        with ui.row().classes("full-width mid"):
            self._status = ui.label().classes("figure").props("role=status")
            ui.space()
            self._buttons = {
                word: self._button(word, action, states)
                for word, action, states in (
                    ("Cancel", self._cancel, core.JOB_RUNNING),
                    ("Pause", self._order("pause"), core.JOB_RUNNING),
                    ("Resume", self._order("resume"), core.JOB_RESUMABLE),
                    ("Download", self._download, ("Completed",)),
                )
            }
        self._bar = ui.linear_progress(0, show_value=False, size="1rem")
        self._bar.props('aria-label="Mini-batches that are done"')
        with ui.row().classes("lane spread"):
            self._figures = {}
            for key, title in _FIGURES.items():
                with ui.column().classes("tight"):
                    self._figures[key] = ui.label(core.UNKNOWN).classes("figure")
                    ui.label(title).classes("quiet text-caption")
        self._error = ui.label().classes("text-negative wrap mono").props("role=alert")
        ui.element("h2").classes("text-h6")._text = "Dead letters"
        columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _LETTERS]
        self._letters = ui.table(columns=columns, rows=[], row_key="number", pagination=10)
        self._letters.classes("full-width").props("flat bordered dense")
        if self._session.right.can_write:
            redrive = ui.button("Try them again", on_click=guarded(self._redrive))
            redrive.props("no-caps outline").bind_visibility_from(self._letters, "rows", bool)
        later(self._refresh())
        ui.timer(REFRESH_S, self._refresh)

    def _button(
        self, word: str, action: Callable[[], Awaitable[None]], states: tuple[str, ...]
    ) -> tuple[ui.button, tuple[str, ...]]:
        made = ui.button(word, on_click=guarded(action)).props("no-caps outline")
        made.set_visibility(False)
        return made, states if word == "Download" or self._session.right.can_write else ()

    async def _refresh(self) -> None:
        try:
            body = await self._jobs.get(self._name)
            letters = await self._jobs.dead_letters(self._name)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                self._status.set_text("there is no job of this name in this workspace")
            return
        self._show(body.get("properties") or {})
        rows = [core.letter_row(each) for each in letters]
        if rows != self._letters.rows:
            self._letters.rows = rows

    def _show(self, told: dict[str, Any]) -> None:
        progress, status = told.get("progress") or {}, str(told.get("status", ""))
        self._status.set_text(f"{status} · {core.done_text(progress)}")
        total = progress.get("miniBatches") or 0
        self._bar.set_value(progress.get("settledMiniBatches", 0) / total if total else 0)
        for key, label in self._figures.items():
            label.set_text(core.short(progress.get(key)))
        error = told.get("error") or {}
        self._error.set_text(f"{error['code']}: {error['message']}" if error else "")
        self._output = core.output_of(told)
        for button, states in self._buttons.values():
            button.set_visibility(status in states)

    async def _cancel(self) -> None:
        await self._jobs.cancel(self._name)
        await self._refresh()

    def _order(self, what: str) -> Callable[[], Awaitable[None]]:
        async def order() -> None:
            await self._jobs.order(self._name, what)
            await self._refresh()

        return order

    async def _redrive(self) -> None:
        await self._jobs.redrive(self._name, [])
        await self._refresh()

    async def _download(self) -> None:
        """The output's only file as it is; several as an archive."""
        folder = Path(tempfile.mkdtemp(prefix="headgate-studio-"))
        ui.context.client.on_delete(lambda: shutil.rmtree(folder, ignore_errors=True))
        files = await self._jobs.download(self._output, folder / "output")
        if sum(file.stat().st_size for file in files) > limits.STUDIO_UPLOAD_BYTES_MAX:
            ui.notify("that is too large for this page: headgate job download", type="warning")
        elif len(files) == 1:
            ui.download.file(files[0])
        elif files:
            ui.download.file(
                shutil.make_archive(str(folder / self._name), "zip", folder / "output")
            )
