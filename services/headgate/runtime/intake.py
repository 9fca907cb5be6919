"""Takes streams in, exactly once: what messages say and how far we are is one transaction.

Streams are read by sequence number, so the bus keeps no state for us; after any restart it goes on
where the database says. What a stream has dropped meanwhile is gone, and is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts.errors import HeadgateError

LOOK_S = 0.5
LOOK_S_MAX = 2.0  # while nothing comes
REMOVE_EVERY_S = 10.0
_RETRY_S = 1.0
_MESSAGES_MAX = 200  # of a transaction, as are
_BYTES_MAX = 512 * 1024

Take = Callable[[AsyncSession, Sequence[RawStreamMsg]], Awaitable[None]]
"""Adds what messages say to the session's transaction; one that is not understood it passes by."""


@dataclass(frozen=True, slots=True)
class Source:
    """A stream and those of its subjects that are taken in."""

    stream: str
    subject: str
    is_ours: bool = False  # nobody else reads it: what is taken in is removed, to make room
    name: str = ""  # by which its position is kept, beside others of the stream

    @property
    def key(self) -> str:
        return self.name or self.stream


class PositionRow(SQLModel):
    """How far a stream has been taken in; each service derives its own table."""

    stream: str = Field(primary_key=True)
    sequence: int = Field(sa_type=BigInteger)


class Intake:
    """Follows one source for ever; ``taken`` is called after each transaction that took some in."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        table: type[PositionRow],
        source: Source,
        take: Take,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._database = database
        self._table = table
        self._source = source
        self._take = take
        self._taken = taken
        self._log = Log(bus.service)
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
                self._log.warning("intake_waits", stream=self._source.stream, error=text)
                wait_s = _RETRY_S
            await asyncio.sleep(wait_s)

    async def step(self) -> bool:
        """Take in what is there, in one transaction; whether there may be more."""
        before = sequence = await self._known_position()
        messages: list[RawStreamMsg] = []
        size = 0
        while has_room := len(messages) < _MESSAGES_MAX and size < _BYTES_MAX:
            message = await self._after(sequence)
            if message is None or message.seq is None:
                break
            sequence = message.seq
            size += len(message.data or b"")
            messages.append(message)
        if not messages:
            return await self._begin_again(before)
        async with self._database.transaction() as session:
            await self._take(session, messages)
            await self.set_position(session, sequence)
        self._position = sequence
        self._taken()
        return not has_room

    async def set_position(self, session: AsyncSession, sequence: int) -> None:
        """Go on after a message of this number, once the session's transaction is committed."""
        self._position = None  # is read again, whatever becomes of the transaction
        await session.merge(self._table(stream=self._source.key, sequence=sequence))

    async def _known_position(self) -> int:
        if self._position is None:
            async with self._database.reading() as session:
                row = await session.get(self._table, self._source.key)
            self._position = row.sequence if row else 0
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
        self._log.warning("stream_began_again", stream=self._source.stream, position=position)
        async with self._database.transaction() as session:
            await self.set_position(session, 0)
        self._position = self._removed_to = 0
        return True
