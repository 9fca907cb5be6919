"""One way of using a database, with the same promises on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from databases import KINDS, fresh_url
from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE, CounterRow, DeploymentRow, metadata
from headgate.runtime import tables
from headgate.runtime.tables import Database, open_database
from headgate_contracts.errors import ErrorCode, HeadgateError

OPENING = """
import asyncio, sys
from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE
from headgate.runtime.tables import open_database

async def main():
    await (await open_database(sys.argv[1], MIGRATIONS, VERSION_TABLE)).close()

asyncio.run(main())
"""


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, data_dir: Path) -> str:
    return fresh_url(request.param, data_dir)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, MIGRATIONS, VERSION_TABLE)
    yield opened
    await opened.close()


@pytest.fixture
async def neighbour(database: Database, url: str) -> AsyncIterator[Database]:
    """The same database in the hands of another process of the service."""
    opened = await open_database(url, MIGRATIONS, VERSION_TABLE)
    yield opened
    await opened.close()


async def count(session: AsyncSession) -> int:
    row = await session.get(CounterRow, "n", populate_existing=True)
    return row.value if row else 0


async def increment(database: Database) -> None:
    """Reads, lets others run, and writes what it read plus one."""
    async with database.transaction() as session:
        value = await count(session)
        await asyncio.sleep(0)
        await session.merge(CounterRow(name="n", value=value + 1))


async def stored(database: Database) -> int:
    async with database.reading() as session:
        return await count(session)


async def test_writers_come_one_after_the_other_also_from_two_processes(
    database: Database, neighbour: Database
) -> None:
    await asyncio.gather(*(increment(each) for each in (database, neighbour) * 20))
    assert await stored(database) == 40


async def test_a_failed_transaction_leaves_nothing_and_holds_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as session:
            await session.merge(CounterRow(name="n", value=7))
            await session.flush()
            _ = 1 / 0
    assert await stored(database) == 0
    await increment(database)
    assert await stored(database) == 1


async def test_a_cancelled_transaction_leaves_nothing_and_holds_nothing(
    database: Database,
) -> None:
    inside = asyncio.Event()

    async def linger() -> None:
        async with database.transaction() as session:
            await session.merge(CounterRow(name="n", value=7))
            await session.flush()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(linger())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await increment(database)
    assert await stored(database) == 1


async def test_a_reader_sees_one_state_throughout(database: Database, neighbour: Database) -> None:
    await increment(database)
    async with database.reading() as session:
        assert await count(session) == 1
        await increment(neighbour)
        assert await count(session) == 1
    assert await stored(database) == 2


async def test_a_writer_gives_up_in_time_and_readers_never_wait(
    database: Database, neighbour: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "WRITE_WAIT_S", 0.3)
    await increment(database)
    async with neighbour.transaction():
        # More writers than the pool has connections: they queue in front of it.
        writers = [asyncio.create_task(increment(database)) for _ in range(30)]
        while not all(writer.done() for writer in writers):
            assert await stored(database) == 1
        results = await asyncio.gather(*writers, return_exceptions=True)
    codes = {result.error.code for result in results if isinstance(result, HeadgateError)}
    assert (len(results), codes) == (30, {ErrorCode.REGISTRY_BUSY})
    assert await stored(database) == 1
    await increment(database)


async def test_a_mistake_of_ours_is_not_dressed_up_as_the_databases(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            session.add(CounterRow(name="n", value=None))
    await increment(database)


async def test_foreign_keys_hold(database: Database) -> None:
    orphan = DeploymentRow(
        endpoint="absent",
        name="blue",
        workspace="w",
        state="",
        spec="",
        error="",
        scoring_path="",
        was_ready=False,
        ready_instances=0,
        operation_id="",
        generation=1,
        revision=1,
        created_at=0,
        updated_at=0,
    )
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            session.add(orphan)


async def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


def test_several_processes_may_open_a_new_database_at_once(url: str) -> None:
    command = [sys.executable, "-c", OPENING, url]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


async def test_any_folder_may_hold_the_database(data_dir: Path) -> None:
    url = f"sqlite+aiosqlite:///{data_dir}/100% strange folder/x.sqlite"
    database = await open_database(url, MIGRATIONS, VERSION_TABLE)
    await increment(database)
    await database.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://someone:hunter2@127.0.0.1:1/x",
        "sqlite+aiosqlite:////proc/no/such/place/x.sqlite",
    ],
)
async def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        await open_database(url, MIGRATIONS, VERSION_TABLE)
    assert caught.value.error.code is ErrorCode.UNAVAILABLE
    assert "hunter2" not in str(caught.value)
    assert ("postgresql" if "postgresql" in url else "/proc/no") in str(caught.value)
