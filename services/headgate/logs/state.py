"""What the logs service remembers: rows go in by the batch, and go again by age and share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import insert
from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.logs import core
from headgate.logs.rows import ROWS, LossRow
from headgate_contracts.logs import Log

Losses = Mapping[tuple[str, Log, int], int]
"""Workspace, table, minute -> rows that were left out."""

_DELETED_AT_ONCE = 5_000


async def add_rows(session: AsyncSession, log: Log, rows: Iterable[Mapping[str, Any]]) -> None:
    connection = await session.connection()
    await connection.execute(insert(ROWS[log]), list(rows))


async def add_losses(session: AsyncSession, losses: Losses) -> None:
    for (workspace, log, minute), count in losses.items():
        row = await session.get(LossRow, (workspace, log.value, minute))
        known = row.rows if row else 0
        await session.merge(
            LossRow(workspace=workspace, log=log.value, minute=minute, rows=known + count)
        )


async def lost(
    session: AsyncSession, workspace: str, log: Log, since: float | None, until: float | None
) -> int:
    """Rows that were left out in the minutes of a time."""
    query = select(func.coalesce(func.sum(LossRow.rows), 0)).where(
        LossRow.workspace == workspace, LossRow.log == log.value
    )
    if since is not None:
        query = query.where(col(LossRow.minute) >= core.minute_of(since))
    if until is not None:
        query = query.where(col(LossRow.minute) < until)
    return int((await session.exec(query)).one())


async def kept_since(session: AsyncSession, workspace: str, log: Log) -> float | None:
    """The time of the oldest row of a workspace."""
    row = ROWS[log]
    query = select(func.min(row.at)).where(row.workspace == workspace)
    return (await session.exec(query)).one()


async def counts(session: AsyncSession, log: Log) -> dict[str, int]:
    """How many rows each endpoint has."""
    row = ROWS[log]
    query = select(row.endpoint, func.count()).group_by(row.endpoint)
    return Counter(dict((await session.exec(query)).all()))


async def forget_old(session: AsyncSession, log: Log, before: float) -> int:
    """Remove those of the first rows that are from before a time; how many.

    Rows come in about the order of their times, so the old ones are among the first.
    """
    row = ROWS[log]
    number = col(row.id)
    first = select(row.id).order_by(number).limit(_DELETED_AT_ONCE)
    old = delete(row).where(number.in_(first), col(row.at) < before)
    return (await session.exec(old)).rowcount


async def forget_first(session: AsyncSession, log: Log, endpoint: str, count: int) -> int:
    """Remove some of the first rows of an endpoint, at most ``count``; how many."""
    row = ROWS[log]
    number = col(row.id)
    first = select(row.id).where(row.endpoint == endpoint).order_by(number)
    oldest = first.limit(min(count, _DELETED_AT_ONCE))
    return (await session.exec(delete(row).where(number.in_(oldest)))).rowcount


async def forget_losses(session: AsyncSession, before: float) -> None:
    await session.exec(delete(LossRow).where(col(LossRow.minute) < before))
