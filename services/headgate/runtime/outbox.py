"""A transactional outbox: events are rows until the stream has them.

A service adds its events in the transaction of the change that they tell of, so neither exists
without the other, whatever dies when. A loop hands them to the stream in order and forgets them
once stored. A crash in between repeats an event under the same id, which the stream and every
consumer recognise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from nats.errors import Error as NatsError
from sqlalchemy import BigInteger, Integer
from sqlmodel import Field, SQLModel, col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import new_id
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import streams
from headgate_contracts.envelope import Event
from headgate_contracts.errors import HeadgateError

_BATCH_ROWS = 100
_POLL_S = 5.0  # finds rows of another process of this service; our own wake the loop at once
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0


# A 64-bit automatic number on both databases: SQLite knows it only as INTEGER.
SERIAL: Any = BigInteger().with_variant(Integer(), "sqlite")
# Without it SQLite gives a number twice, and the order of rows would be lost.
SQLITE_ARGS = {"sqlite_autoincrement": True}


class OutboxRow(SQLModel):
    """Columns of an outbox; each service derives its own table, with ``SQLITE_ARGS``."""

    seq: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    event_id: str
    subject: str
    headers: str
    payload: str


class Outbox:
    """The outbox of one service: ``add`` inside its transactions, ``wake`` after, ``run`` ever."""

    def __init__(self, database: Database, table: type[OutboxRow], bus: Bus) -> None:
        self._database = database
        self._table = table
        self._bus = bus
        self._log = Log(bus.service)
        self._woken = asyncio.Event()
        bus.on_reconnect(self._on_reconnect)

    def add(self, session: AsyncSession, events: Sequence[Event], *, cause: str = "") -> None:
        """Make events part of the session's transaction, in this order."""
        now = self._bus.clock.now()
        for event in events:
            session.add(self._row(event.stamped(id=new_id(), at=now, cause=cause)))

    def wake(self) -> None:
        """Say that a transaction with events has been committed."""
        self._woken.set()

    async def run(self) -> None:
        """Hand over events for ever."""
        retry_s = _RETRY_FIRST_S
        while True:
            self._woken.clear()
            try:
                await self.drain()
                wait_s, retry_s = _POLL_S, _RETRY_FIRST_S
            except (HeadgateError, NatsError, TimeoutError) as error:
                self._log.warning("outbox_waits", error=str(error) or type(error).__name__)
                wait_s, retry_s = retry_s, min(2 * retry_s, _RETRY_MAX_S)
            await self._sleep(wait_s)

    async def drain(self) -> None:
        """Hand over everything that is due. Raises when bus or database do not do their part."""
        while rows := await self._due():
            stored = []
            try:
                for row in rows:
                    await self._bus.publish_stored_event(
                        row.subject, row.payload.encode(), json.loads(row.headers)
                    )
                    stored.append(row.seq)
            finally:
                if stored:
                    await self._forget(stored)

    async def _due(self) -> Sequence[OutboxRow]:
        async with self._database.reading() as session:
            query = select(self._table).order_by(col(self._table.seq)).limit(_BATCH_ROWS)
            return (await session.exec(query)).all()

    async def _forget(self, stored: Sequence[int | None]) -> None:
        async with self._database.transaction() as session:
            await session.exec(delete(self._table).where(col(self._table.seq).in_(stored)))

    def _row(self, event: Event) -> OutboxRow:
        headers = json.dumps(event_headers(event, self._bus.service))
        payload = event.model_dump_json()
        size = len(headers) + len(payload.encode())
        if size > streams.EVENTS.max_msg_bytes:
            # The stream would refuse it for ever, and every later event would wait behind it.
            raise ValueError(f"an event {event.TYPE} of {size} bytes does not fit its stream")
        return self._table(
            event_id=event.id, subject=event.subject(), headers=headers, payload=payload
        )

    async def _sleep(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _on_reconnect(self) -> None:
        self._woken.set()
