"""What the registry remembers of things: resources that are nothing but their specification.

One table holds them all, told apart by ``kind``. The modules of a kind turn rows into values.
"""

from __future__ import annotations

from typing import Any

from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry.rows import ThingRow

COMPUTES = "computes"  # a kind that several modules ask for


async def find(session: AsyncSession, workspace: str, kind: str, name: str) -> ThingRow | None:
    """The thing of this name in the workspace."""
    return await session.get(ThingRow, (workspace, kind, name))


async def find_anywhere(session: AsyncSession, kind: str, name: str) -> ThingRow | None:
    """The thing of this name in whatever workspace, for names that are unique beyond theirs."""
    query = select(ThingRow).where(ThingRow.kind == kind, ThingRow.name == name)
    return (await session.exec(query.limit(1))).first()


async def page(
    session: AsyncSession, workspace: str, kind: str, after: str = "", limit: int | None = None
) -> list[ThingRow]:
    """The workspace's things of a kind after the one named ``after``, by name."""
    query = select(ThingRow).where(
        ThingRow.workspace == workspace, ThingRow.kind == kind, ThingRow.name > after
    )
    return list((await session.exec(query.order_by(ThingRow.name).limit(limit))).all())


async def below(session: AsyncSession, workspace: str, kind: str, owner: str) -> list[ThingRow]:
    """The things of a kind that are named ``<owner>/<name>``, by name."""
    query = select(ThingRow).where(
        ThingRow.workspace == workspace,
        ThingRow.kind == kind,
        col(ThingRow.name).startswith(f"{owner}/", autoescape=True),
    )
    return list((await session.exec(query.order_by(ThingRow.name))).all())


async def count(session: AsyncSession, kind: str, workspace: str = "") -> int:
    """How many things of a kind a workspace has; all of them together when none is named."""
    query = select(func.count()).select_from(ThingRow).where(ThingRow.kind == kind)
    if workspace:
        query = query.where(ThingRow.workspace == workspace)
    return (await session.exec(query)).one()


async def save(session: AsyncSession, row: ThingRow) -> None:
    """Store a thing, new or changed."""
    await session.merge(row)


async def drop(session: AsyncSession, workspace: str, kind: str, name: str) -> None:
    """Forget a thing."""
    await session.exec(
        delete(ThingRow).where(
            col(ThingRow.workspace) == workspace,
            col(ThingRow.kind) == kind,
            col(ThingRow.name) == name,
        )
    )


def stamps(thing: Any) -> dict[str, Any]:
    """What a row and its resource have in common besides the specification."""
    fields = ("workspace", "revision", "created_at", "updated_at", "created_by", "updated_by")
    return {field: getattr(thing, field) for field in fields}
