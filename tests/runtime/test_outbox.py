"""The outbox: an event exists exactly when its change does, and reaches the stream in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from sqlmodel import select

from databases import KINDS, fresh_url
from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE, RegistryOutboxRow
from headgate.runtime import natsd, outbox
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database, open_database
from headgate_contracts import limits, streams
from headgate_contracts.registry import EndpointUpdated


class Sender:
    """A service with an outbox and nothing else, and the stream as it fills."""

    def __init__(
        self, server: natsd.RunningServer, bus: Bus, probe: Bus, database: Database
    ) -> None:
        self.server = server
        self.probe = probe
        self.database = database
        self.outbox = Outbox(database, RegistryOutboxRow, bus)

    async def change(self, *revisions: int) -> None:
        """A transaction that tells of some changes."""
        events = [
            EndpointUpdated(workspace="w", endpoint="ep", revision=revision)
            for revision in revisions
        ]
        async with self.database.transaction() as session:
            self.outbox.add(session, events, cause="the-command")
        self.outbox.wake()

    async def rows(self) -> list[RegistryOutboxRow]:
        async with self.database.reading() as session:
            return list((await session.exec(select(RegistryOutboxRow))).all())

    async def stored(self) -> list[EndpointUpdated]:
        """What the stream holds."""
        js = self.probe.js
        last = (await js.stream_info(streams.EVENTS.name)).state.last_seq
        found = []
        for sequence in range(1, last + 1):
            message = await js.get_msg(streams.EVENTS.name, seq=sequence, direct=True)
            found.append(EndpointUpdated.model_validate_json(message.data or b""))
        return found

    async def until_empty(self) -> None:
        async with asyncio.timeout(15):
            while await self.rows():
                await asyncio.sleep(0.02)


async def connect(server: natsd.RunningServer, service: str) -> Bus:
    return await Bus.connect(service, server.url, server.creds(service), SystemClock())


async def prepare_streams(server: natsd.RunningServer) -> None:
    bus = await connect(server, "bootstrap")
    await bootstrap(bus)
    await bus.close()


@pytest.fixture(params=KINDS)
async def sender(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[Sender]:
    url = fresh_url(request.param, data_dir)
    async with natsd.running(data_dir) as server:
        database = await open_database(url, MIGRATIONS, VERSION_TABLE)
        bus, probe = await connect(server, "registry"), await connect(server, "probe")
        yield Sender(server, bus, probe, database)
        await bus.close()
        await probe.close()
        await database.close()


@pytest.fixture
async def running(sender: Sender) -> AsyncIterator[Callable[[], None]]:
    """Starts the loop that a service runs."""
    tasks: list[asyncio.Task[None]] = []
    yield lambda: tasks.append(asyncio.create_task(sender.outbox.run()))
    for task in tasks:
        while not task.done():  # asyncio.wait_for may swallow one cancellation
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


async def test_events_are_stored_in_order_and_forgotten(sender: Sender) -> None:
    await prepare_streams(sender.server)
    for first in range(0, 240, 3):
        await sender.change(first, first + 1, first + 2)
    await sender.outbox.drain()
    stored = await sender.stored()
    assert [event.revision for event in stored] == list(range(240))
    assert len({event.id for event in stored}) == 240
    assert {event.cause for event in stored} == {"the-command"}
    assert await sender.rows() == []


async def test_a_transaction_that_fails_tells_nothing(sender: Sender) -> None:
    await prepare_streams(sender.server)
    with pytest.raises(ZeroDivisionError):
        async with sender.database.transaction() as session:
            event = EndpointUpdated(workspace="w", endpoint="ep")
            sender.outbox.add(session, [event])
            await session.flush()
            _ = 1 / 0
    assert await sender.rows() == []


async def test_a_crash_after_the_publication_repeats_an_event_that_the_stream_knows(
    sender: Sender,
) -> None:
    await prepare_streams(sender.server)
    await sender.change(1, 2)
    rows = [row.model_dump() for row in await sender.rows()]
    await sender.outbox.drain()
    async with sender.database.transaction() as session:  # as if they were never forgotten
        session.add_all([RegistryOutboxRow(**row) for row in rows])
    await sender.outbox.drain()
    assert [event.revision for event in await sender.stored()] == [1, 2]
    assert await sender.rows() == []


async def test_a_commit_wakes_the_loop_at_once(
    sender: Sender, running: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_POLL_S", 1e6)
    await prepare_streams(sender.server)
    running()
    for revision in range(3):
        await sender.change(revision)
        await sender.until_empty()
    assert len(await sender.stored()) == 3


async def test_events_wait_for_a_stream_that_is_not_there_yet(
    sender: Sender, running: Callable[[], None]
) -> None:
    running()
    await sender.change(1)
    with pytest.raises(NatsError):
        await sender.outbox.drain()
    assert len(await sender.rows()) == 1
    await prepare_streams(sender.server)
    await sender.until_empty()
    assert [event.revision for event in await sender.stored()] == [1]


async def test_events_survive_a_bus_that_dies(sender: Sender, running: Callable[[], None]) -> None:
    await prepare_streams(sender.server)
    running()
    await sender.change(1)
    await sender.server.kill()
    for revision in range(2, 12):
        await sender.change(revision)  # the database does not need the bus
    await sender.server.start()
    await sender.until_empty()
    assert [event.revision for event in await sender.stored()] == list(range(1, 12))


async def test_an_event_that_the_stream_would_refuse_never_gets_in(sender: Sender) -> None:
    """It would be tried for ever, and all others would wait behind it."""
    fields = ("x" * 1_000,) * (limits.BUS_PAYLOAD_BYTES_MAX // 100_000)
    event = EndpointUpdated(workspace="w", endpoint="ep", fields=fields)
    with pytest.raises(ValueError, match="does not fit"):
        async with sender.database.transaction() as session:
            sender.outbox.add(session, [event])
    assert await sender.rows() == []
