"""What the autoscaler remembers: rows become values and values rows."""

from __future__ import annotations

from sqlmodel import col, delete, func, select, tuple_
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.autoscaler.metrics import KEY
from headgate.autoscaler.rows import CooldownRow, CounterRow, DecisionRow, SettingRow
from headgate_contracts import limits
from headgate_contracts.autoscale import (
    AutoscaleSetting,
    ListAutoscaleSettings,
    ListDecisions,
    ScaleDecision,
)

_REVISION = "revision"


async def next_revision(session: AsyncSession) -> int:
    """A number larger than any given out before."""
    row = await session.get(CounterRow, _REVISION)
    value = (row.value if row else 0) + 1
    await session.merge(CounterRow(name=_REVISION, value=value))
    return value


# --- settings ----------------------------------------------------------------------------------


async def setting(session: AsyncSession, workspace: str, name: str) -> AutoscaleSetting | None:
    row = await session.get(SettingRow, (workspace, name))
    return _setting(row) if row else None


async def setting_of(session: AsyncSession, key: KEY) -> AutoscaleSetting | None:
    """The setting of a deployment."""
    query = select(SettingRow).where(SettingRow.endpoint == key[0], SettingRow.deployment == key[1])
    row = (await session.exec(query)).first()
    return _setting(row) if row else None


async def settings(
    session: AsyncSession, query: ListAutoscaleSettings
) -> tuple[list[AutoscaleSetting], str]:
    """A page of settings, and the cursor of the next."""
    wanted = select(SettingRow).order_by(SettingRow.workspace, SettingRow.name)
    for name in ("workspace", "name", "endpoint", "deployment"):
        if value := getattr(query, name):
            wanted = wanted.where(getattr(SettingRow, name) == value)
    if query.after:
        workspace, _, name = query.after.partition("/")
        place = tuple_(col(SettingRow.workspace), col(SettingRow.name))
        wanted = wanted.where(place > tuple_(workspace, name))
    rows = (await session.exec(wanted.limit(query.limit + 1))).all()
    shown = rows[: query.limit]
    after = f"{shown[-1].workspace}/{shown[-1].name}" if len(rows) > query.limit else ""
    return [_setting(row) for row in shown], after


async def all_settings(session: AsyncSession) -> list[AutoscaleSetting]:
    """Every setting of the installation; they are bounded."""
    return [_setting(row) for row in (await session.exec(select(SettingRow))).all()]


async def count_settings(session: AsyncSession) -> int:
    return (await session.exec(select(func.count()).select_from(SettingRow))).one()


async def save_setting(session: AsyncSession, value: AutoscaleSetting) -> None:
    await session.merge(
        SettingRow(
            workspace=value.workspace,
            name=value.spec.name,
            endpoint=value.spec.endpoint,
            deployment=value.spec.deployment,
            revision=value.revision,
            value=value.model_dump_json(),
        )
    )


async def forget_setting(session: AsyncSession, value: AutoscaleSetting) -> None:
    await session.exec(
        delete(SettingRow).where(
            col(SettingRow.workspace) == value.workspace, col(SettingRow.name) == value.spec.name
        )
    )


def _setting(row: SettingRow) -> AutoscaleSetting:
    return AutoscaleSetting.model_validate_json(row.value)


# --- decisions ---------------------------------------------------------------------------------


async def add_decision(session: AsyncSession, decision: ScaleDecision) -> None:
    """Keep a decision, and no more of one deployment than there may be."""
    session.add(
        DecisionRow(
            workspace=decision.workspace,
            endpoint=decision.endpoint,
            deployment=decision.deployment,
            at=decision.at,
            value=decision.model_dump_json(),
        )
    )
    await session.flush()
    here = (
        col(DecisionRow.endpoint) == decision.endpoint,
        col(DecisionRow.deployment) == decision.deployment,
    )
    oldest = select(DecisionRow.seq).where(*here).order_by(col(DecisionRow.seq).desc())
    first = (await session.exec(oldest.offset(limits.SCALE_DECISIONS_KEPT_MAX).limit(1))).first()
    if first is not None:
        await session.exec(delete(DecisionRow).where(*here, col(DecisionRow.seq) <= first))


async def decisions(session: AsyncSession, query: ListDecisions) -> list[ScaleDecision]:
    """Newest first."""
    wanted = select(DecisionRow).where(
        DecisionRow.workspace == query.workspace, DecisionRow.at >= query.since
    )
    for name in ("endpoint", "deployment"):
        if value := getattr(query, name):
            wanted = wanted.where(getattr(DecisionRow, name) == value)
    wanted = wanted.order_by(col(DecisionRow.seq).desc()).limit(query.limit)
    rows = (await session.exec(wanted)).all()
    return [ScaleDecision.model_validate_json(row.value) for row in rows]


async def forget_decisions(session: AsyncSession, before: float) -> None:
    await session.exec(delete(DecisionRow).where(col(DecisionRow.at) < before))


# --- cooldowns ---------------------------------------------------------------------------------


async def cooldowns(session: AsyncSession) -> dict[KEY, float]:
    rows = (await session.exec(select(CooldownRow))).all()
    return {(row.endpoint, row.deployment): row.until for row in rows}


async def save_cooldown(session: AsyncSession, key: KEY, until: float) -> None:
    await session.merge(CooldownRow(endpoint=key[0], deployment=key[1], until=until))


async def forget_cooldowns(session: AsyncSession, before: float) -> None:
    await session.exec(delete(CooldownRow).where(col(CooldownRow.until) < before))
