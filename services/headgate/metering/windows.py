"""What is used of quotas that count in windows, from the ledger.

Counts and how far a reporter's own records have been taken in come from one look at the database,
so whoever adds what it knows beyond that key counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select  # SQLModel's gives no rows for one column alone
from sqlmodel import col, func
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import state
from headgate.metering.rows import UsageRow
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.quotas import (
    EACH,
    UNCOUNTED,
    GetQuotaUse,
    Quota,
    QuotaKind,
    QuotaUse,
    QuotaUseReply,
    window_of,
)
from headgate_contracts.usage import UsageKind

_US = 1_000_000


class Windows:
    """Answers how much is used."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {GetQuotaUse: self.get_quota_use}

    async def get_quota_use(self, query: GetQuotaUse) -> QuotaUseReply:
        now = self._clock.now()
        found: list[QuotaUse] = []
        async with self._database.reading() as session:
            epoch, sequence = await state.last_key(session, query.reporter)
            for quota in query.quotas:
                if quota.window_s:
                    found += await _used(session, quota, window_of(quota.window_s, now)[0])
        found.sort(key=lambda use: -use.used)
        return QuotaUseReply(
            uses=tuple(found[: limits.QUOTA_USES_MAX]),
            epoch=epoch,
            sequence=sequence,
            is_cut=len(found) > limits.QUOTA_USES_MAX,
        )


async def _used(session: AsyncSession, quota: Quota, since: int) -> list[QuotaUse]:
    row = UsageRow
    amount = row.requests if quota.kind is QuotaKind.REQUESTS else row.compute_us
    places = {"endpoint": row.endpoint, "caller": row.caller}
    groups = {name: place for name, place in places.items() if getattr(quota, name)}
    query: Any = select(func.sum(amount), *groups.values()).where(
        col(row.workspace) == quota.workspace,
        col(row.begins) >= since,
        col(row.kind) == UsageKind.SCORED.value,
        col(row.deployment) != "",
        col(row.status).not_in(UNCOUNTED),
        *(
            place == getattr(quota, name)
            for name, place in groups.items()
            if getattr(quota, name) != EACH
        ),
    )
    query = query.group_by(*groups.values()) if groups else query
    unit = 1 if quota.kind is QuotaKind.REQUESTS else _US
    return [
        QuotaUse(
            workspace=quota.workspace,
            quota=quota.name,
            since=since,
            used=int(used) / unit,
            **dict(zip(groups, names, strict=True)),
        )
        for used, *names in (await session.exec(query)).all()
        if used
    ]
