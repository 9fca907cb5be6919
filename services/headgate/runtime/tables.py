"""A service's database: SQLite by default, PostgreSQL by URL, one way of using both.

Every transaction that may write begins as *the* writer of its service: ``BEGIN IMMEDIATE`` on
SQLite, where a deferred transaction that reads first and writes later fails at once when another
writer commits between; an advisory lock on PostgreSQL. So a decision always rests on what is
stored, on both databases alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate_contracts.errors import ErrorCode, HeadgateError

# How long a writer waits for its turn. Less than a request on the bus waits for its answer, so
# that the caller hears "busy, nothing was done" and not "the outcome is unknown".
WRITE_WAIT_S = 4.0
_MIGRATION_WAIT_MS = 30_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={_MIGRATION_WAIT_MS}",
    "PRAGMA foreign_keys=ON",
)
# SQLSTATE of PostgreSQL: lock_not_available, disk_full, character_not_in_repertoire.
_PG_LOCKED, _PG_DISK_FULL, _PG_BAD_TEXT = "55P03", "53100", "22021"


class Database:
    """Sessions on one database: ``transaction`` for all that writes, ``reading`` for the rest."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
        # Writers queue here, not in the pool: its connections stay free for readers.
        self._turn = asyncio.Lock()
        self._lock_number = zlib.crc32(name.encode())

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction: committed at the end, rolled back on any error.

        Raises HeadgateError(RegistryBusy) when the database stays locked, StorageFull when the
        disk is full. Must not be nested.
        """
        deadline = time.monotonic() + WRITE_WAIT_S
        try:
            async with asyncio.timeout(WRITE_WAIT_S):
                await self._turn.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            async with self._sessions() as session:
                await self._begin_as_writer(session, deadline)
                yield session
                await session.commit()
        except (IntegrityError, ProgrammingError):
            raise  # mistakes of ours stay what they are
        except DBAPIError as error:
            raise _explain(error) from error
        finally:
            self._turn.release()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads, and reads one state of the database throughout."""
        try:
            async with self._sessions() as session:
                if self.is_sqlite:
                    await _say(session, "BEGIN")
                else:
                    level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
                    await _say(session, level)
                yield session
        except (IntegrityError, ProgrammingError):
            raise  # mistakes of ours stay what they are
        except DBAPIError as error:
            raise _explain(error) from error

    async def _begin_as_writer(self, session: AsyncSession, deadline: float) -> None:
        wait_ms = max(1, int(1000 * (deadline - time.monotonic())))
        if self.is_sqlite:
            await _say(session, f"PRAGMA busy_timeout={wait_ms}")
            await _say(session, "BEGIN IMMEDIATE")
        else:
            await _say(session, f"SET LOCAL lock_timeout={wait_ms}")
            await _say(session, f"SELECT pg_advisory_xact_lock({self._lock_number})")

    async def close(self) -> None:
        await self.engine.dispose()


async def open_database(url: str, migrations: Path, version_table: str) -> Database:
    """Open the database behind ``url`` and bring its schema up to date.

    ``migrations`` is the service's Alembic folder; each service has a version table of its own,
    so several can share one PostgreSQL database.
    """
    engine = create_async_engine(
        url, pool_size=5, pool_pre_ping=True, poolclass=AsyncAdaptedQueuePool
    )
    begin = "SELECT pg_advisory_xact_lock(727247)"
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        begin = "BEGIN IMMEDIATE"
    try:
        if engine.url.database and engine.dialect.name == "sqlite":
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(begin)  # one process migrates, the others wait
            await connection.run_sync(_migrate, migrations, version_table)
    except (DBAPIError, OSError) as error:
        await engine.dispose()
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"cannot open the database {_shown(url)}: {error}"
        ) from error
    return Database(engine, version_table)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own implicit BEGIN is switched off; Database begins explicitly.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _migrate(connection: Connection, migrations: Path, version_table: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, "head")


async def _say(session: AsyncSession, statement: str) -> None:
    """The first words of a session, which take a connection out of the pool.

    Whoever is cancelled meanwhile waits for their end: a connection that is half made would never
    be closed.
    """

    async def say() -> None:
        await (await session.connection()).exec_driver_sql(statement)

    saying = asyncio.create_task(say())
    try:
        await asyncio.shield(saying)
    except asyncio.CancelledError:
        await asyncio.wait([saying])
        raise


def _busy() -> HeadgateError:
    return HeadgateError(
        ErrorCode.REGISTRY_BUSY,
        "the database is locked by another writer; nothing was changed, try again",
        retry_after_s=1,
    )


def _explain(error: DBAPIError) -> HeadgateError:
    """What the failure means to a caller."""
    said, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if state == _PG_LOCKED or "database is locked" in said or "database is busy" in said:
        return _busy()
    if state == _PG_DISK_FULL or "disk is full" in said:
        return HeadgateError(ErrorCode.STORAGE_FULL, "the disk of the database is full")
    if state == _PG_BAD_TEXT:
        return HeadgateError(ErrorCode.BAD_ARGUMENT, "no name holds a NUL character")
    return HeadgateError(
        ErrorCode.UNAVAILABLE, f"the database does not answer: {said}", retry_after_s=1
    )


def _shown(url: str) -> str:
    """The URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://***@{tail}" if at else url
