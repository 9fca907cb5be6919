"""The stream of events: what has happened since a moment, and what happens, searchable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import background_tasks, ui

from headgate.client import events
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

ROWS_MAX = 500
_STYLES = {
    "what": "min-width: 10rem",
    "where": "overflow-wrap: anywhere; min-width: 16rem",
    "text": "overflow-wrap: anywhere; min-width: 16rem",
}
_SPANS = {"10m": "10 minutes", "1h": "1 hour", "24h": "1 day", "7d": "7 days"}


@dataclass(frozen=True, slots=True)
class Columns:
    """What is shown of an event; ``row`` has the event's id as ``id``."""

    titles: tuple[tuple[str, str], ...]
    row: Callable[[Mapping[str, Any]], dict[str, str]]


def _row(event: Mapping[str, Any]) -> dict[str, str]:
    at, kind, text = core.event_line(event)
    return {"id": str(event.get("id")), "time": at, "kind": kind, "text": text}


EVERYTHING = Columns((("time", "Time (UTC)"), ("kind", "Event"), ("text", "What")), _row)


def draw(
    session: Session, *, filter: str = "", since: str = "1h", columns: Columns = EVERYTHING
) -> None:
    """A table that grows at its head while the page is open."""
    with ui.row().classes("full-width mid"):
        search = ui.input(placeholder="Search").props('dense clearable aria-label="Search events"')
        span = ui.select(_SPANS, value=since).props('dense aria-label="How far back"')
        moment = ui.input("Replay from (UTC)", placeholder="2030-01-31 12:00")
        moment.props("dense clearable").style("width: 13rem")
        problem = ui.label().classes("text-negative wrap").props("role=alert")
    listed = table(columns.titles, key="id", styles=_STYLES).classes("mono")
    listed.props('no-data-label="Nothing in this time."')
    listed.bind_filter_from(search, "value")
    fresh: list[dict[str, str]] = []

    async def follow(begin: str) -> None:
        try:
            async for event in events.tail(session.client.http, filter=filter, since=begin):
                if core.is_of(event, session.workspace):
                    fresh.append(columns.row(event))
                del fresh[:-ROWS_MAX]
        except HeadgateError as error:
            problem.set_text(error.error.message)

    task: list[asyncio.Task[None]] = []

    def begin() -> None:
        stop()
        fresh.clear()
        listed.rows = []
        problem.set_text("")
        start = core.moment_of(moment.value or "") or str(span.value)
        task.append(background_tasks.create(follow(start)))

    def stop() -> None:
        while task:
            task.pop().cancel()

    def refresh() -> None:
        if fresh:
            listed.rows = [*reversed(fresh), *listed.rows][:ROWS_MAX]
            fresh.clear()

    span.on_value_change(begin)
    moment.on("keydown.enter", begin)
    moment.on("clear", begin)
    ui.context.client.on_delete(stop)
    begin()
    every(1.0, refresh)
