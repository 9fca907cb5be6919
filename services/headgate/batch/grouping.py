"""Counts a job's mini-batches in groups of neighbours: a picture that never grows with the job."""

from __future__ import annotations

from sqlalchemy import select as columns
from sqlmodel import col, func
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.batch.rows import MiniBatchRow


async def counted(
    session: AsyncSession, job_id: str, first: int, until: int, size: int
) -> list[tuple[int, str, bool, int]]:
    """Mini-batches from ``first`` to before ``until``, counted by groups of ``size``.

    Group, state, whether it was tried more than once, how many.
    """
    row = MiniBatchRow
    one = (
        columns(
            ((col(row.number) - first) // size).label("part"),
            col(row.state),
            ((col(row.attempt) > 1) | (col(row.losses) > 0)).label("again"),
        )
        .where(col(row.job) == job_id, col(row.number) >= first, col(row.number) < until)
        .subquery()
        .c
    )
    query = columns(one.part, one.state, one.again, func.count())
    query = query.group_by(one.part, one.state, one.again)
    found = (await (await session.connection()).execute(query)).all()
    return [(int(part), state, bool(was), int(count)) for part, state, was, count in found]
