"""What the registry remembers of quotas, and what a workspace has of what they limit."""

from __future__ import annotations

import json
from collections import defaultdict

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import quotas, things
from headgate.registry.batch import BatchGroup
from headgate.registry.quotas import Exceeded, Holdings
from headgate.registry.records import Group
from headgate.registry.rows import DeploymentRow, EndpointRow, ThingRow
from headgate_contracts.quotas import Quota

KIND = "quotas"
_BATCH_ENDPOINTS, _BATCH_DEPLOYMENTS = "batchEndpoints", "batchDeployments"


async def all_quotas(session: AsyncSession, workspace: str) -> list[Quota]:
    """The quotas of a workspace, by name."""
    rows = await things.page(session, workspace, KIND)
    return [Quota.model_validate_json(row.spec) for row in rows]


async def find(session: AsyncSession, workspace: str, name: str) -> Quota | None:
    """One of them."""
    row = await things.find(session, workspace, KIND, name)
    return Quota.model_validate_json(row.spec) if row else None


async def save(session: AsyncSession, quota: Quota, now: float, by: str) -> None:
    """Keep a quota, new or changed."""
    row = await things.find(session, quota.workspace, KIND, quota.name)
    await things.save(
        session,
        ThingRow(
            workspace=quota.workspace,
            kind=KIND,
            name=quota.name,
            spec=quota.model_dump_json(),
            revision=0,
            created_at=row.created_at if row else now,
            created_by=row.created_by if row else by,
            updated_at=now,
            updated_by=by,
        ),
    )


async def endpoint_names(session: AsyncSession, workspace: str) -> list[str]:
    """The online endpoints of a workspace: each may need another route."""
    query = select(EndpointRow.name).where(EndpointRow.workspace == workspace)
    return list((await session.exec(query)).all())


async def holdings(session: AsyncSession, workspace: str) -> Holdings:
    """What a workspace has."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name in await endpoint_names(session, workspace):
        found[name] = {}
    for thing in await things.page(session, workspace, _BATCH_ENDPOINTS):
        found[thing.name] = {}
    for thing in await things.page(session, workspace, _BATCH_DEPLOYMENTS):
        endpoint, _, name = thing.name.partition("/")
        found[endpoint][name] = 0
    query = select(DeploymentRow).where(DeploymentRow.workspace == workspace)
    for row in (await session.exec(query)).all():
        count = 0 if row.is_stopped else json.loads(row.spec)["instance_count"]
        found[row.endpoint][row.name] = count
    return dict(found)


async def of_change(
    session: AsyncSession,
    endpoint: str,
    before: Group | BatchGroup | None,
    after: Group | BatchGroup | None,
) -> Exceeded | None:
    """The quota beyond which a change of an endpoint would go; asked before it is stored."""
    wanted = quotas.holding(after)
    if after is None or wanted is None or not quotas.grows(quotas.holding(before), wanted):
        return None
    known = await all_quotas(session, after.workspace)
    if not known:
        return None
    had = await holdings(session, after.workspace)
    return quotas.exceeded(known, had, {**had, endpoint: wanted})
