"""What the tables take in: rows that routers and instances say, and events of instances."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.js.api import RawStreamMsg
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.logs import core, state
from headgate.logs.export import Export
from headgate.runtime.intake import Source
from headgate.runtime.log import Log as OwnLog
from headgate_contracts import streams, subjects
from headgate_contracts.logs import ConsoleLogged, Log, LogRows, TraceLogged, TrafficLogged

_UNSTORED = {"trace_state", "run_id", "method", "path"}  # what only an export needs
_SAID = {kind.LOG.value: kind for kind in (TrafficLogged, ConsoleLogged, TraceLogged)}

_log = OwnLog("logs")


@dataclass(slots=True)
class Taken:
    """What some messages say."""

    rows: dict[Log, list[dict[str, Any]]] = field(default_factory=dict)
    lost: Counter[tuple[str, Log, int]] = field(default_factory=Counter)
    said: list[LogRows] = field(default_factory=list)

    def add(self, log: Log, rows: Iterable[dict[str, Any]]) -> None:
        self.rows.setdefault(log, []).extend(rows)


LOGS = Source(streams.LOGS.name, subjects.LOG_ALL)
INSTANCES = Source(streams.EVENTS.name, subjects.events_of("instance"))


class Tables:
    """Puts what messages say into the tables; what those have is handed to the export, if any."""

    def __init__(self, export: Export | None = None) -> None:
        self._export = export
        self._said: list[LogRows] = []

    async def take(self, session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        taken = Taken()
        for message in messages:
            take(taken, message.subject or "", message.data or b"")
        for log, rows in taken.rows.items():
            if rows:
                await state.add_rows(session, log, rows)
        await state.add_losses(session, taken.lost)
        self._said = taken.said

    def hand_on(self) -> None:
        if self._export is not None:
            self._export.add(self._said)


def take(taken: Taken, subject: str, payload: bytes) -> None:
    """Add what a message says; one that is not understood is told and left out."""
    kind, what = subject.split(".")[2], subject.rpartition(".")[2]
    try:
        if kind == "log":
            _take_rows(taken, _SAID[subject.split(".")[3]].model_validate_json(payload))
        else:
            event = json.loads(payload)
            if not isinstance(event, Mapping):
                raise ValueError("it is no object")
            taken.add(Log.EVENTS, core.event_rows(what, event))
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        _log.warning("bad_row", subject=subject, error=str(error)[:200])


def _take_rows(taken: Taken, said: LogRows) -> None:
    taken.said.append(said)
    if isinstance(said, ConsoleLogged):
        lines = (row.model_dump() for row in said.rows)
        taken.add(Log.CONSOLE, ({**row, "message": core.clean(row["message"])} for row in lines))
    elif isinstance(said, TrafficLogged):
        taken.add(Log.TRAFFIC, (row.model_dump() for row in said.rows))
    elif isinstance(said, TraceLogged):
        taken.add(Log.TRACES, (row.model_dump(exclude=_UNSTORED) for row in said.rows))
    for workspace, count in said.lost.items():
        taken.lost[workspace, said.LOG, core.minute_of(said.at)] += count
