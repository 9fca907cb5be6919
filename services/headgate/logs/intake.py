"""Takes streams in, exactly once: what a message says and how far we are is one transaction.

Streams are read by sequence number, so the bus keeps no state for us; after any restart it goes on
where the database says. What the stream has dropped meanwhile is gone, and is not waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from headgate.logs import core, state
from headgate.logs.export import Export
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log as OwnLog
from headgate.runtime.tables import Database
from headgate_contracts import streams, subjects
from headgate_contracts.errors import HeadgateError
from headgate_contracts.logs import ConsoleLogged, Log, LogRows, TraceLogged, TrafficLogged

LOOK_S = 0.5
LOOK_S_MAX = 2.0  # while nothing comes
_RETRY_S = 1.0
_MESSAGES_MAX = 200
_ROWS_MAX = 2_000
_UNSTORED = {"trace_state", "run_id", "method", "path"}  # what only an export needs
_SAID = {kind.LOG.value: kind for kind in (TrafficLogged, ConsoleLogged, TraceLogged)}

_log = OwnLog("logs")


@dataclass(slots=True)
class Taken:
    """What some messages say."""

    rows: dict[Log, list[dict[str, Any]]] = field(default_factory=dict)
    lost: Counter[tuple[str, Log, int]] = field(default_factory=Counter)
    count: int = 0
    said: list[LogRows] = field(default_factory=list)

    def add(self, log: Log, rows: Iterable[dict[str, Any]]) -> None:
        kept = self.rows.setdefault(log, [])
        before = len(kept)
        kept += rows
        self.count += len(kept) - before


@dataclass(frozen=True, slots=True)
class Source:
    """A stream and those of its subjects that become rows."""

    stream: str
    subject: str


LOGS = Source(streams.LOGS.name, subjects.LOG_ALL)
INSTANCES = Source(streams.EVENTS.name, subjects.events_of("instance"))


class Intake:
    """Follows one source for ever."""

    def __init__(
        self, bus: Bus, database: Database, source: Source, export: Export | None = None
    ) -> None:
        self._bus = bus
        self._export = export
        self._database = database
        self._source = source
        self._position: int | None = None  # ours alone, so it is read once

    async def run(self) -> None:
        look_s = LOOK_S
        while True:
            try:
                before = self._position
                was_full = await self.step()
                look_s = LOOK_S if self._position != before else min(2 * look_s, LOOK_S_MAX)
                wait_s = 0.0 if was_full else look_s
            except (NatsError, HeadgateError, TimeoutError) as error:
                text = str(error) or type(error).__name__
                _log.warning("intake_waits", stream=self._source.stream, error=text)
                wait_s = _RETRY_S
            await asyncio.sleep(wait_s)

    async def step(self) -> bool:
        """Take in what is there, in one transaction; whether there may be more."""
        before = await self._known_position()
        taken, sequence, may_have_more = Taken(), before, True
        for _ in range(_MESSAGES_MAX):
            message = await self._after(sequence)
            if message is None or message.seq is None:
                may_have_more = False
                break
            sequence = message.seq
            take(taken, message.subject or "", message.data or b"")
            if taken.count >= _ROWS_MAX:
                break
        if sequence == before:
            return await self._begin_again(before)
        async with self._database.transaction() as session:
            for log, rows in taken.rows.items():
                if rows:
                    await state.add_rows(session, log, rows)
            await state.add_losses(session, taken.lost)
            await state.set_position(session, self._source.stream, sequence)
        self._position = sequence
        if self._export is not None:
            self._export.add(taken.said)
        return may_have_more

    async def _known_position(self) -> int:
        if self._position is None:
            async with self._database.reading() as session:
                self._position = await state.position(session, self._source.stream)
        return self._position

    async def _after(self, sequence: int) -> RawStreamMsg | None:
        source = self._source
        try:
            return await self._bus.js.get_msg(
                source.stream, seq=sequence + 1, subject=source.subject, next=True
            )
        except NotFoundError:
            return None

    async def _begin_again(self, position: int) -> bool:
        """A stream that ends before our position was made anew after a loss."""
        if not position:
            return False
        found = (await self._bus.js.stream_info(self._source.stream)).state
        if found.last_seq >= position:
            return False
        _log.warning("stream_began_again", stream=self._source.stream, position=position)
        async with self._database.transaction() as session:
            await state.set_position(session, self._source.stream, 0)
        self._position = 0
        return True


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
