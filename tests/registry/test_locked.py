"""A database that is locked or full: writes are refused in time, reads go on, nothing is torn."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text

from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE
from headgate.runtime import tables
from headgate.runtime.bus import ASK_TIMEOUT_S
from headgate_contracts.errors import ErrorCode
from registry.harness import World, eventually, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOCK = "LOCK TABLE registry_counter, registry_endpoint, registry_operation IN EXCLUSIVE MODE"


@asynccontextmanager
async def locked(world: World) -> AsyncIterator[None]:
    """Another program holds the write lock."""
    database = await tables.open_database(world.settings.database, MIGRATIONS, VERSION_TABLE)
    async with database.engine.connect() as connection:
        await connection.execute(text("BEGIN IMMEDIATE" if database.is_sqlite else LOCK))
        yield
        await connection.rollback()
    await database.close()


async def test_a_locked_registry_refuses_writes_in_time_and_goes_on_reading(
    own_world: World, name: str
) -> None:
    await own_world.start()
    stored = (await own_world.put_endpoint(name)).endpoint
    loop = asyncio.get_running_loop()
    async with locked(own_world):
        begun = loop.time()
        writes = [
            asyncio.create_task(own_world.put_endpoint(name, tags={"n": str(number)}))
            for number in range(12)
        ]
        reads = 0
        while not all(write.done() for write in writes):
            assert await own_world.endpoint(name) == stored
            reads += 1
        for write in writes:
            await refused(ErrorCode.REGISTRY_BUSY, write, "try again")
        assert reads > 20
        # Or the caller would only know that the outcome is unknown.
        assert tables.WRITE_WAIT_S < ASK_TIMEOUT_S
        assert loop.time() - begun < 2 * ASK_TIMEOUT_S
    assert await own_world.endpoint(name) == stored
    after = await own_world.put_endpoint(name, tags={"n": "after"})
    assert after.endpoint.revision == stored.revision + 1


async def test_a_writer_that_waited_its_turn_is_served(own_world: World, name: str) -> None:
    await own_world.start()
    await own_world.put_endpoint(name)
    async with locked(own_world):
        write = asyncio.create_task(own_world.put_endpoint(name, tags={"a": "1"}))
        await own_world.endpoint(name)
        assert not write.done()
    assert (await write).endpoint.spec.tags == {"a": "1"}


@pytest.mark.parametrize("own_world", ["sqlite"], indirect=True)
async def test_a_full_disk_refuses_writes_and_heals_without_a_restart(
    own_world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(own_world.settings.database.split("///", 1)[1])
    pages = {"max": 0}

    def limit(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count={pages['max'] or 1_000_000}")
        cursor.close()

    database_of = tables.create_async_engine

    def limited(*args: object, **options: object) -> object:
        engine = database_of(*args, **options)
        event.listen(engine.sync_engine, "checkout", limit)
        return engine

    monkeypatch.setattr(tables, "create_async_engine", limited)
    await own_world.start()
    stored = (await own_world.put_endpoint(name)).endpoint
    pages["max"] = 1  # SQLite takes it as "no more than there are"
    big = "x" * 4_000

    async def full() -> bool:
        try:
            await own_world.put_endpoint(name, description=big)
        except Exception as error:
            assert error.error.code is ErrorCode.STORAGE_FULL
            return True
        return False

    await eventually(full)
    assert (await own_world.endpoint(name)).spec.name == stored.spec.name
    pages["max"] = 0
    await own_world.put_endpoint(name, description="well again")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
