"""One batch job, from its start to its output: progress, a picture of its mini-batches, errors."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.client.jobs import Jobs
from headgate.portal import batch_core, core
from headgate.portal.attention import every
from headgate.portal.pages.frame import Studio, guarded, heading, later, page
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

REFRESH_S = 2.0
# The picture costs the batch service a look at each mini-batch: it is not asked for all the time.
PICTURE_SHARE = 0.05
_LETTERS = (
    ("number", "Mini-batch"), ("files", "Files"), ("items", "Items"), ("attempts", "Attempts"),
    ("error", "Error"),
)  # fmt: skip
_FIGURES = {
    "items": "Items", "succeededItems": "Succeeded", "failedItems": "Failed", "rows": "Rows",
    "retries": "Retries", "nodes": "Nodes", "miniBatchesPerSecond": "Mini-batches/s",
    "secondsLeft": "Seconds left",
}  # fmt: skip
_LOG_CHARS_MAX = 200_000


def register(studio: Studio) -> None:
    @ui.page("/jobs/{name}")
    async def job(request: Request, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=("Batch", "/batch")):
            await Jobs(session.client).get(name)
            JobPage(session, name).draw()


class Picture:
    """A cell for each group of neighbouring mini-batches; a click looks at one of them closer."""

    def __init__(self, jobs: Jobs, name: str) -> None:
        self._jobs = jobs
        self._name = name
        self._part = (0, 0)
        self._size = 1
        self._next_at = 0.0
        self._seen: Mapping[str, Any] = {}

    def draw(self) -> None:
        with ui.row().classes("full-width mid"):
            heading("Mini-batches")
            self._range = ui.label().classes("quiet")
            ui.space()
            number = ui.number("Look closer at", min=0, precision=0).props("dense")
            number.style("width: 8rem")
            number.on("keydown.enter", lambda: self._closer(number.value))
            self._whole = ui.button("Whole job", on_click=lambda: self._look_at(0, 0))
            self._whole.props("flat dense no-caps")
        self._summary = ui.label().classes("wrap").props("role=status")
        self._grid = ui.html("", sanitize=False).classes("cells full-width").props("role=img")
        self._grid.on(
            "click",
            lambda event: self._closer(event.args),
            js_handler="(e) => { const n = e.target.dataset.n; if (n) emit(Number(n)); }",
        )
        with ui.row().classes("legend"):
            for state, words in batch_core.STATES.items():
                with ui.row().classes("mid close no-wrap"):
                    ui.html(f'<i class="{state}" style="--d:100%"></i>', sanitize=False)
                    ui.label(words).classes("quiet text-caption")

    def _closer(self, number: float | None) -> None:
        if number is None or self._size == 1:
            return
        first = int(number) // self._size * self._size
        self._look_at(first, self._size)

    def _look_at(self, first: int, number: int) -> None:
        self._part = (first, number)
        later(guarded(self._ask)())

    async def refresh(self, progress: Mapping[str, Any], *, is_over: bool) -> None:
        """Ask anew when there is progress, but not soon after an answer that took long, unless
        there will be none any more."""
        if progress != self._seen and (is_over or time.monotonic() >= self._next_at):
            await self._ask()
            self._seen = progress

    async def _ask(self) -> None:
        began = time.monotonic()
        first, number = self._part
        told = await self._jobs.mini_batches(self._name, first, number)
        took_s = time.monotonic() - began
        self._next_at = began + took_s / PICTURE_SHARE
        groups, self._size = told["value"], int(told["groupSize"])
        summary = batch_core.summary(batch_core.totals(groups))
        self._summary.set_text(summary)
        self._grid.set_content(batch_core.cells(groups, self._size))
        self._grid.props(f'aria-label="Mini-batches: {summary}"')
        each = f", {self._size} in a cell" if self._size > 1 else ""
        part = f"{first} to {first + number - 1}" if number else ""
        self._range.set_text(f"{part}{each}".removeprefix(", "))
        self._whole.set_visibility(bool(number))


class JobPage:
    """One job, looked at again and again until it has ended."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._jobs = Jobs(session.client)
        self._picture = Picture(self._jobs, name)
        self._output = ""
        self._failed = 0

    def draw(self) -> None:
        with ui.row().classes("full-width mid"):
            self._status = ui.label().classes("figure").props("role=status")
            ui.space()
            self._buttons = {
                word: self._button(word, action, states)
                for word, action, states in (
                    ("Cancel", self._cancel, batch_core.RUNNING),
                    ("Pause", self._order("pause"), batch_core.RUNNING),
                    ("Resume", self._order("resume"), batch_core.RESUMABLE),
                    ("Download", self._download, ("Completed",)),
                )
            }
        self._bar = ui.linear_progress(0, show_value=False, size="1rem").props("instant-feedback")
        self._bar.props('aria-label="Mini-batches that are done"')
        with ui.row().classes("lane spread"):
            self._figures = {}
            for key, title in _FIGURES.items():
                with ui.column().classes("tight"):
                    self._figures[key] = ui.label(core.UNKNOWN).classes("figure")
                    ui.label(title).classes("quiet text-caption")
        self._about = ui.label().classes("quiet wrap")
        self._error = ui.label().classes("text-negative wrap mono").props("role=alert")
        self._picture.draw()
        with ui.row().classes("full-width mid"):
            heading("Given up")
            ui.space()
            self._redrive_button = ui.button("Try them again", on_click=guarded(self._redrive))
            self._redrive_button.props("no-caps outline")
        self._none = ui.label("Nothing was given up.").classes("quiet")
        self._letters = table(_LETTERS, key="number", rows_per_page=10)
        self._show_rows([])
        self._show_retry("")
        self._draw_logs()
        every(REFRESH_S, self._refresh)

    def _button(
        self, word: str, action: Callable[[], Awaitable[None]], states: tuple[str, ...]
    ) -> tuple[ui.button, tuple[str, ...]]:
        made = ui.button(word, on_click=guarded(action)).props("no-caps outline")
        made.set_visibility(False)
        return made, states if word == "Download" or self._session.right.can_write else ()

    # -- what is shown --------------------------------------------------------------------------

    async def _refresh(self) -> None:
        try:
            body = await self._jobs.get(self._name)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                self._status.set_text("there is no job of this name in this workspace")
            return
        told = body.get("properties") or {}
        self._show(told)
        progress = told.get("progress") or {}
        with contextlib.suppress(HeadgateError):  # it is asked for again at the next look
            is_over = told.get("status") not in batch_core.RUNNING
            await self._picture.refresh(progress, is_over=is_over)
            await self._show_letters(progress.get("failedMiniBatches", 0))
        self._show_retry(str(told.get("status", "")))

    async def _show_letters(self, failed: int) -> None:
        if failed == self._failed:
            return
        self._failed = failed
        found = await self._jobs.dead_letters(self._name, limits.PAGE_SIZE_DEFAULT)
        self._show_rows([batch_core.letter_row(each) for each in found])

    def _show_rows(self, rows: list[dict[str, str]]) -> None:
        self._letters.rows = rows
        self._letters.set_visibility(bool(rows))
        self._none.set_visibility(not rows)

    def _show_retry(self, status: str) -> None:
        may = status in batch_core.RETRIABLE and self._session.right.can_write
        self._redrive_button.set_visibility(bool(self._letters.rows) and may)

    def _show(self, told: Mapping[str, Any]) -> None:
        progress, status = told.get("progress") or {}, str(told.get("status", ""))
        self._status.set_text(f"{status} · {batch_core.done_text(progress)}")
        total = progress.get("miniBatches") or 0
        self._bar.set_value(progress.get("settledMiniBatches", 0) / total if total else 0)
        for key, label in self._figures.items():
            label.set_text(core.short(progress.get(key)))
        self._about.set_text(batch_core.about(told))
        error = told.get("error") or {}
        self._error.set_text(f"{error['code']}: {error['message']}" if error else "")
        self._output = batch_core.output_of(told)
        for button, states in self._buttons.values():
            button.set_visibility(status in states)

    def _draw_logs(self) -> None:
        with ui.expansion("Logs", icon="article").classes("full-width") as expansion:
            chosen = ui.select([], label="File").classes("full-width")
            shown = ui.log(max_lines=5_000).classes("full-width mono")
            shown.style("height: 20rem").props('tabindex=0 role=log aria-label="Lines of the log"')
        addresses: dict[str, str] = {}

        async def look() -> None:
            if not expansion.value:
                return
            addresses.update(await self._jobs.logs(self._name))
            first = next(iter(sorted(addresses)), None)
            chosen.set_options(sorted(addresses), value=chosen.value or first)

        async def read() -> None:
            shown.clear()
            if address := addresses.get(str(chosen.value or "")):
                text = await self._jobs.log(address)
                shown.push(text[-_LOG_CHARS_MAX:] or "(empty)")

        expansion.on_value_change(guarded(look))
        chosen.on_value_change(guarded(read))

    # -- what is done ---------------------------------------------------------------------------

    async def _cancel(self) -> None:
        await self._jobs.cancel(self._name)
        await self._refresh()

    def _order(self, what: str) -> Callable[[], Awaitable[None]]:
        async def order() -> None:
            await self._jobs.order(self._name, what)
            await self._refresh()

        return order

    async def _redrive(self) -> None:
        body = await self._jobs.redrive(self._name, [])
        if body["name"] != self._name:  # this one is completed
            ui.navigate.to(f"/jobs/{body['name']}")
            return
        await self._refresh()

    async def _download(self) -> None:
        """The output's only file as it is; several as an archive."""
        folder = Path(tempfile.mkdtemp(prefix="headgate-studio-"))
        ui.context.client.on_delete(lambda: shutil.rmtree(folder, ignore_errors=True))
        files = await self._jobs.download(
            self._output, folder / "output", bytes_max=limits.STUDIO_UPLOAD_BYTES_MAX
        )
        if len(files) == 1:
            ui.download.file(files[0])
        elif files:
            made = shutil.make_archive(str(folder / self._name), "zip", folder / "output")
            ui.download.file(made)
        else:
            ui.notify("the output holds no file", type="warning")
