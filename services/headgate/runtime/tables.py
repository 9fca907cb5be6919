"""A service's database: SQLite by default, PostgreSQL by URL, one way of using both.

Every transaction that may write begins as a writer (``BEGIN IMMEDIATE`` on SQLite): a deferred
transaction that reads first and writes later fails at once when another writer commits between.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate_contracts.errors import ErrorCode, HeadgateError

_BUSY_TIMEOUT_MS = 5_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys=ON",
)


class Database:
    """Sessions on one database: ``transaction`` for all that writes, ``reading`` for the rest."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction: committed at the end, rolled back on any error.

        Raises HeadgateError(RegistryBusy) when the database stays locked, StorageFull when the
        disk is full.
        """
        try:
            async with self._sessions() as session:
                if self.is_sqlite:
                    await session.execute(text("BEGIN IMMEDIATE"))
                yield session
                await session.commit()
        except OperationalError as error:
            raise _explain(error) from error

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads."""
        try:
            async with self._sessions() as session:
                if self.is_sqlite:
                    await session.execute(text("BEGIN"))
                yield session
        except OperationalError as error:
            raise _explain(error) from error

    async def close(self) -> None:
        await self.engine.dispose()


async def open_database(url: str, migrations: Path, version_table: str) -> Database:
    """Open the database behind ``url`` and bring its schema up to date.

    ``migrations`` is the service's Alembic folder; each service has a version table of its own,
    so several can share one PostgreSQL database.
    """
    if url.startswith("sqlite"):
        path = Path(url.split("///", 1)[1])
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url, pool_size=5, pool_pre_ping=True, poolclass=AsyncAdaptedQueuePool
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(727247)"))
            await connection.run_sync(_migrate, migrations, version_table)
    except (DBAPIError, OSError) as error:
        await engine.dispose()
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"cannot open the database {_shown(url)}: {error}"
        ) from error
    return Database(engine)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own implicit BEGIN is switched off; Database begins explicitly.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _migrate(connection: Connection, migrations: Path, version_table: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, "head")


def _explain(error: OperationalError) -> HeadgateError:
    said = str(error.orig)
    if "database is locked" in said or "database is busy" in said:
        return HeadgateError(
            ErrorCode.REGISTRY_BUSY, "the database is locked by another writer", retry_after_s=1
        )
    if "disk is full" in said or "No space left" in said:
        return HeadgateError(ErrorCode.STORAGE_FULL, "the disk of the database is full")
    return HeadgateError(ErrorCode.UNAVAILABLE, f"the database does not answer: {said}")


def _shown(url: str) -> str:
    """The URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://***@{tail}" if at else url
