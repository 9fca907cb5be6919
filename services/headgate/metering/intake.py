"""Takes streams in, exactly once: what messages say and how far we are is one transaction.

Streams are read by sequence number, so the bus keeps no state for us; after any restart it goes on
where the database says. Usage that is in the ledger is removed from its stream: that stream refuses
what it has no room for, and routers keep what it does not take.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core, state
from headgate.metering.rows import InstanceRow
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import streams, subjects
from headgate_contracts.errors import HeadgateError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.usage import UsageReported

LOOK_S = 0.5
LOOK_S_MAX = 2.0  # while nothing comes
REMOVE_EVERY_S = 10.0
_RETRY_S = 1.0
_MESSAGES_MAX = 200
_BEGINS, _ENDS = ("started", "adopted"), ("stopped", "lost")

Take = Callable[[AsyncSession, Sequence[RawStreamMsg]], Awaitable[None]]
_log = Log("metering")


@dataclass(frozen=True, slots=True)
class Source:
    """A stream and those of its subjects that are taken in."""

    stream: str
    subject: str
    is_ours: bool = False  # nobody else reads it
    name: str = ""  # by which its position is kept, beside others of the stream

    @property
    def key(self) -> str:
        return self.name or self.stream


USAGE = Source(streams.USAGE.name, subjects.USAGE_ALL, is_ours=True)
INSTANCES = Source(streams.EVENTS.name, subjects.events_of("instance"))


class Intake:
    """Follows one source for ever."""

    def __init__(self, bus: Bus, database: Database, source: Source, take: Take) -> None:
        self._bus = bus
        self._database = database
        self._source = source
        self._take = take
        self._position: int | None = None  # ours alone, so it is read once
        self._removed_at = 0.0
        self._removed_to = 0

    async def run(self) -> None:
        look_s = LOOK_S
        while True:
            try:
                before = self._position
                was_full = await self.step()
                await self._remove_taken()
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
        messages: list[RawStreamMsg] = []
        sequence = before
        while len(messages) < _MESSAGES_MAX:
            message = await self._after(sequence)
            if message is None or message.seq is None:
                break
            sequence = message.seq
            messages.append(message)
        if not messages:
            return await self._begin_again(before)
        async with self._database.transaction() as session:
            await self._take(session, messages)
            await state.set_position(session, self._source.key, sequence)
        self._position = sequence
        return len(messages) == _MESSAGES_MAX

    def forget_position(self) -> None:
        """Somebody has set it in the database."""
        self._position = None

    async def _known_position(self) -> int:
        if self._position is None:
            async with self._database.reading() as session:
                self._position = await state.position(session, self._source.key)
        return self._position

    async def _after(self, sequence: int) -> RawStreamMsg | None:
        source = self._source
        try:
            return await self._bus.js.get_msg(
                source.stream, seq=sequence + 1, subject=source.subject, next=True
            )
        except NotFoundError:
            return None

    async def _remove_taken(self) -> None:
        """Make room for what is not taken in yet."""
        position, now = self._position or 0, self._bus.clock.monotonic()
        is_due = now - self._removed_at >= REMOVE_EVERY_S and position > self._removed_to
        if self._source.is_ours and is_due:
            await self._bus.js.purge_stream(self._source.stream, seq=position + 1)
            self._removed_at, self._removed_to = now, position

    async def _begin_again(self, position: int) -> bool:
        """A stream that ends before our position was made anew after a loss."""
        if not position:
            return False
        found = (await self._bus.js.stream_info(self._source.stream)).state
        if found.last_seq >= position:
            return False
        _log.warning("stream_began_again", stream=self._source.stream, position=position)
        async with self._database.transaction() as session:
            await state.set_position(session, self._source.key, 0)
        self._position = self._removed_to = 0
        return True


def usage_taker(bus: Bus) -> Take:
    """Adds reports to the ledger; rows that are in it already are known by their keys."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        now = bus.clock.now()
        keys: dict[str, state.Key] = {}
        rows: list[dict[str, Any]] = []
        for message in messages:
            try:
                report = UsageReported.model_validate_json(message.data or b"")
            except ValidationError as error:
                _log.error("bad_usage", subject=message.subject, error=str(error)[:200])
                continue
            if report.reporter not in keys:
                keys[report.reporter] = await state.last_key(session, report.reporter)
            for sequence, row in enumerate(report.rows, report.first):
                key = (report.epoch, sequence)
                if key <= keys[report.reporter]:
                    continue
                keys[report.reporter] = key
                begins = core.begins_of(row.minute, now)
                if begins is None:
                    _log.error("usage_too_old", reporter=report.reporter, requests=row.requests)
                else:
                    rows.append({"begins": begins, **row.model_dump(exclude={"minute"})})
        await state.add_usage(session, rows)
        for reporter, key in keys.items():
            await state.set_last_key(session, reporter, key, now)

    return take


def instance_taker(types: InstanceTypes, began: Callable[[InstanceRow], None]) -> Take:
    """Notes when instances begin and end. What an event says twice changes nothing."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        for message in messages:
            what = (message.subject or "").rpartition(".")[2]
            if what not in (*_BEGINS, *_ENDS):
                continue
            try:
                event = json.loads(message.data or b"")
                instance, at = str(event["instance"]), float(event["at"])
                if what in _ENDS:
                    was_asked = what == "stopped"
                    await state.close_instance(session, instance, at, was_asked=was_asked)
                    continue
                size = str(event.get("instance_type", ""))
                row = InstanceRow(
                    instance=instance,
                    began_at=at,
                    workspace=str(event["workspace"]),
                    endpoint=str(event["endpoint"]),
                    deployment=str(event["deployment"]),
                    instance_type=size,
                    price_per_hour=price_of(types, size),
                )
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("bad_event", subject=message.subject, error=repr(error))
                continue
            await state.open_instance(session, row)
            await session.flush()
            began(InstanceRow(**row.model_dump()))

    return take


def price_of(types: InstanceTypes, size: str) -> str:
    """What an hour costs, as a decimal number; a size that is not in the catalogue is free."""
    found = types.get(size)
    return str(found.price_per_hour) if found else "0"
