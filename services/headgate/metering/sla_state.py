"""What the metering service remembers of service levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core
from headgate.metering.core import HOUR_S
from headgate.metering.rows import ObjectiveRow, SlaAlertRow, SliRow
from headgate.metering.sla_core import Sli
from headgate_contracts.sla import Indicator, Objective, Severity, SlaAlert

Endpoint = tuple[str, str]  # workspace, name
_FIELDS = Sli._fields


async def save_slis(session: AsyncSession, minute: int, slis: Mapping[Endpoint, Sli]) -> None:
    """Keep a minute."""
    for (workspace, endpoint), sli in slis.items():
        await session.merge(
            SliRow(begins=minute, workspace=workspace, endpoint=endpoint, **sli._asdict())
        )


async def sums(
    session: AsyncSession, since: float, workspace: str = "", endpoints: Iterable[str] = ()
) -> dict[Endpoint, Sli]:
    """What has come since a time: of all endpoints, or some."""
    query: Any = select(
        SliRow.workspace,
        SliRow.endpoint,
        *(func.sum(getattr(SliRow, name)) for name in _FIELDS),
    ).where(SliRow.begins >= since)
    if workspace:
        query = query.where(SliRow.workspace == workspace)
    if names := list(endpoints):
        query = query.where(col(SliRow.endpoint).in_(names))
    found = await session.exec(query.group_by(SliRow.workspace, SliRow.endpoint))
    return {
        (row[0], row[1]): Sli(int(row[2]), int(row[3]), int(row[4]), float(row[5]), int(row[6]))
        for row in found.all()
    }


async def fold_an_hour(session: AsyncSession, before: int) -> bool:
    """Add the minutes of one hour up, the first that is not; whether there may be another."""
    begins = col(SliRow.begins)
    is_minute = begins % HOUR_S != 0
    first = (await session.exec(select(func.min(begins)).where(is_minute, begins < before))).one()
    if first is None:
        return False
    hour = core.hour_of(first)
    in_hour = (begins >= hour, begins < hour + HOUR_S)
    totals: dict[Endpoint, Sli] = {}
    for row in (await session.exec(select(SliRow).where(*in_hour))).all():
        place = (row.workspace, row.endpoint)
        totals[place] = totals.get(place, Sli()).plus(Sli(*(getattr(row, f) for f in _FIELDS)))
    await session.exec(delete(SliRow).where(*in_hour))
    session.expunge_all()
    await save_slis(session, hour, totals)
    return True


async def forget(session: AsyncSession, before: float) -> None:
    await session.exec(delete(SliRow).where(col(SliRow.begins) < before))


async def objectives(session: AsyncSession) -> dict[Endpoint, Objective]:
    """Those that endpoints have of their own."""
    rows = (await session.exec(select(ObjectiveRow))).all()
    return {(row.workspace, row.endpoint): Objective.model_validate_json(row.value) for row in rows}


async def save_objective(session: AsyncSession, objective: Objective) -> None:
    await session.merge(
        ObjectiveRow(
            workspace=objective.workspace,
            endpoint=objective.endpoint,
            value=objective.model_dump_json(),
        )
    )


async def delete_objective(session: AsyncSession, workspace: str, endpoint: str) -> bool:
    """Whether there was one."""
    row = await session.get(ObjectiveRow, (workspace, endpoint))
    if row is not None:
        await session.delete(row)
    return row is not None


async def alerts(session: AsyncSession) -> dict[Endpoint, list[SlaAlert]]:
    """What has been told of and is not over."""
    found: dict[Endpoint, list[SlaAlert]] = {}
    for row in (await session.exec(select(SlaAlertRow))).all():
        alert = SlaAlert(
            indicator=Indicator(row.indicator), severity=Severity(row.severity), since=row.since
        )
        found.setdefault((row.workspace, row.endpoint), []).append(alert)
    return found


async def begin_alert(
    session: AsyncSession, place: Endpoint, indicator: Indicator, severity: Severity, now: float
) -> bool:
    """Whether it is new."""
    key = (*place, indicator.value, severity.value)
    if await session.get(SlaAlertRow, key) is not None:
        return False
    fields = dict(zip(("workspace", "endpoint", "indicator", "severity"), key, strict=True))
    session.add(SlaAlertRow(**fields, since=now))
    return True


async def end_alert(
    session: AsyncSession, place: Endpoint, indicator: Indicator, severity: Severity
) -> float | None:
    """Since when there was one; None when there was none."""
    row = await session.get(SlaAlertRow, (*place, indicator.value, severity.value))
    if row is None:
        return None
    await session.delete(row)
    return row.since
