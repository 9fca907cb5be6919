"""The stream of events: what has happened, and what happens, searchable."""

from __future__ import annotations

import asyncio
import contextlib

from nicegui import background_tasks, ui

from headgate.client import events
from headgate.portal import core
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

ROWS_MAX = 500
_COLUMNS = (("time", "Time"), ("kind", "Event"), ("text", "What"))


def draw(session: Session, *, filter: str = "", since: str = "1h") -> None:
    """A table that grows at its head while the page is open."""
    with ui.row().classes("full-width mid"):
        search = ui.input(placeholder="Search").props('dense clearable aria-label="Search events"')
        span = ui.select({"10m": "10 minutes", "1h": "1 hour", "24h": "1 day"}, value=since)
        span.props('dense aria-label="How far back"')
    columns = [
        {"name": key, "label": label, "field": key, "align": "left"} for key, label in _COLUMNS
    ]
    table = ui.table(columns=columns, rows=[], row_key="id", pagination=25)
    table.classes("full-width mono").props("flat bordered dense")
    table.bind_filter_from(search, "value")
    fresh: list[dict[str, str]] = []

    async def follow() -> None:
        with contextlib.suppress(HeadgateError):
            async for event in events.tail(
                session.client.http, filter=filter, since=str(span.value)
            ):
                at, kind, text = core.event_line(event)
                fresh.append({"id": str(event.get("id")), "time": at, "kind": kind, "text": text})

    task: list[asyncio.Task[None]] = []

    def begin() -> None:
        stop()
        fresh.clear()
        table.rows = []
        task.append(background_tasks.create(follow()))

    def stop() -> None:
        while task:
            task.pop().cancel()

    def refresh() -> None:
        if fresh:
            table.rows = [*reversed(fresh), *table.rows][:ROWS_MAX]
            fresh.clear()

    span.on_value_change(begin)
    ui.context.client.on_delete(stop)
    begin()
    ui.timer(1.0, refresh)
