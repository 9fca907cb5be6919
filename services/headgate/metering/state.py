"""What the metering service remembers: counts are added, times are opened and closed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, delete, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core
from headgate.metering.core import HOUR_S, GbPrices, Place, Ran, Used
from headgate.metering.rows import (
    AlertRow,
    BudgetRow,
    InstanceRow,
    MetricRow,
    PriceRow,
    ReporterRow,
    TagRow,
    UsageRow,
)
from headgate_contracts.metering import Scope
from headgate_contracts.metrics import QueryMetrics

Key = tuple[int, int]  # epoch, sequence
_COUNTS = ("requests", "request_bytes", "response_bytes", "compute_us")
_DELETED_AT_ONCE = 5_000


# --- the streams -------------------------------------------------------------------------------


async def last_key(session: AsyncSession, reporter: str) -> Key:
    """The highest key of a reporter that was taken in."""
    row = await session.get(ReporterRow, reporter)
    return (row.epoch, row.sequence) if row else (-1, -1)


async def set_last_key(session: AsyncSession, reporter: str, key: Key, now: float) -> None:
    epoch, sequence = key
    await session.merge(ReporterRow(reporter=reporter, epoch=epoch, sequence=sequence, seen_at=now))


async def forget_reporters(session: AsyncSession, before: float) -> None:
    await session.exec(delete(ReporterRow).where(col(ReporterRow.seen_at) < before))


# --- requests ----------------------------------------------------------------------------------


async def add_usage(session: AsyncSession, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add counts to what is known of the same minute, place, caller, kind and status."""
    table: Table = UsageRow.__table__  # type: ignore[attr-defined] # SQLModel makes it
    connection = await session.connection()
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    for row in _merged(rows):
        new = insert(table).values(**row)
        sums = {name: table.c[name] + new.excluded[name] for name in _COUNTS}
        await connection.execute(
            new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=sums)
        )


def _merged(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    sums: defaultdict[tuple[tuple[str, Any], ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        keys = tuple((name, value) for name, value in row.items() if name not in _COUNTS)
        found = sums[keys]
        for at, name in enumerate(_COUNTS):
            found[at] += row[name]
    return [
        {**dict(keys), **dict(zip(_COUNTS, found, strict=True))} for keys, found in sums.items()
    ]


async def fold_an_hour(session: AsyncSession, before: int) -> bool:
    """Add the minutes of one hour up, the first that is not; whether there may be another."""
    minute = col(UsageRow.begins)
    is_minute = minute % HOUR_S != 0
    first = (await session.exec(select(func.min(minute)).where(is_minute, minute < before))).one()
    if first is None:
        return False
    hour = core.hour_of(first)
    in_hour = (is_minute, minute >= hour, minute < hour + HOUR_S)
    rows = (await session.exec(select(UsageRow).where(*in_hour))).all()
    await add_usage(session, [{**row.model_dump(), "begins": hour} for row in rows])
    await session.exec(delete(UsageRow).where(*in_hour))
    return True


async def forget_usage(session: AsyncSession, before: int) -> None:
    await session.exec(delete(UsageRow).where(col(UsageRow.begins) < before))


async def used(
    session: AsyncSession, scope: Scope, since: float, until: float, *, by_caller: bool
) -> list[Used]:
    """Requests of a time, added up by hour."""
    hour = (col(UsageRow.begins) - col(UsageRow.begins) % HOUR_S).label("hour")
    caller = [col(UsageRow.caller)] if by_caller else []
    groups = [hour, col(UsageRow.endpoint), col(UsageRow.deployment), col(UsageRow.kind), *caller]
    sums = [func.sum(getattr(UsageRow, name)) for name in _COUNTS]
    query: Any = (
        select(*groups, *sums)
        .where(*_in_scope(UsageRow, scope), UsageRow.begins >= since, UsageRow.begins < until)
        .group_by(*groups)
    )
    found = (await session.exec(query)).all()
    return [
        Used(
            int(row[0]),
            row[1],
            row[2],
            row[4] if by_caller else "",
            row[3],
            *map(int, row[-len(_COUNTS) :]),
        )
        for row in found
    ]


# --- instances ---------------------------------------------------------------------------------


async def open_instance(session: AsyncSession, row: InstanceRow) -> None:
    """It runs from now on, unless that is known."""
    known = select(InstanceRow).where(InstanceRow.instance == row.instance)
    if (await session.exec(known)).first() is None:
        session.add(row)


async def close_instance(
    session: AsyncSession, instance: str, at: float, *, was_asked: bool
) -> None:
    """It has ended."""
    for row in await _running(session, InstanceRow.instance == instance):
        ended_at = core.end_of(at, row.seen_at, was_asked=was_asked)
        row.ended_at = max(ended_at, row.began_at)
        session.add(row)


async def close_node(session: AsyncSession, node: InstanceRow, alive_s: float) -> None:
    """It has ended after so long; one that nobody knew is noted as a whole, ``node`` as it was."""
    query = select(InstanceRow).where(InstanceRow.instance == node.instance)
    rows = (await session.exec(query)).all()
    if not rows and alive_s > 0:
        session.add(node)
        return
    began_at = min((row.began_at for row in rows), default=0.0)
    for row in rows:
        if row.ended_at is None:
            row.ended_at = max(row.began_at, began_at + alive_s)
            session.add(row)


async def note_seen(session: AsyncSession, instances: Sequence[str], at: float) -> None:
    """They live."""
    for row in await _running(session, col(InstanceRow.instance).in_(instances)):
        row.seen_at = at
        session.add(row)


async def running(session: AsyncSession) -> Sequence[InstanceRow]:
    """Instances that run now."""
    return await _running(session)


async def _running(session: AsyncSession, *conditions: Any) -> Sequence[InstanceRow]:
    query = select(InstanceRow).where(col(InstanceRow.ended_at).is_(None), *conditions)
    return (await session.exec(query)).all()


async def ran(session: AsyncSession, scope: Scope, since: float, until: float) -> list[Ran]:
    """Instances that ran in a time."""
    ended = col(InstanceRow.ended_at)
    query = select(InstanceRow).where(
        *_in_scope(InstanceRow, scope),
        InstanceRow.began_at < until,
        or_(ended.is_(None), ended > since),
    )
    return [
        Ran(
            row.endpoint,
            row.deployment,
            row.began_at,
            row.ended_at,
            Decimal(row.price_per_hour),
            row.job,
        )
        for row in (await session.exec(query)).all()
    ]


async def forget_instances(session: AsyncSession, before: float) -> None:
    await session.exec(delete(InstanceRow).where(col(InstanceRow.ended_at) < before))


def _in_scope(row: type[UsageRow] | type[InstanceRow], scope: Scope) -> list[Any]:
    found: list[Any] = [row.workspace == scope.workspace]
    if scope.endpoint:
        found.append(row.endpoint == scope.endpoint)
    if scope.deployment:
        found.append(row.deployment == scope.deployment)
    return found


# --- prices and tags ---------------------------------------------------------------------------


async def gb_prices(session: AsyncSession) -> GbPrices:
    rows = (await session.exec(select(PriceRow))).all()
    return GbPrices({row.since: Decimal(row.price_per_gb) for row in rows})


async def set_gb_price(session: AsyncSession, price: str, now: float) -> None:
    """What a GB costs from now on, if that is another price than the latest."""
    query = select(PriceRow).order_by(col(PriceRow.since).desc()).limit(1)
    latest = (await session.exec(query)).first()
    if latest is None or latest.price_per_gb != price:
        session.add(PriceRow(since=now, price_per_gb=price))


async def tags(session: AsyncSession, workspace: str) -> dict[Place, dict[str, str]]:
    found: defaultdict[Place, dict[str, str]] = defaultdict(dict)
    query = select(TagRow).where(TagRow.workspace == workspace)
    for row in (await session.exec(query)).all():
        found[row.endpoint, row.deployment][row.name] = row.value
    return found


async def set_tags(
    session: AsyncSession, workspace: str, place: Place, found: Mapping[str, str]
) -> None:
    endpoint, deployment = place
    await session.exec(
        delete(TagRow).where(
            col(TagRow.workspace) == workspace,
            col(TagRow.endpoint) == endpoint,
            col(TagRow.deployment) == deployment,
        )
    )
    for name, value in found.items():
        session.add(
            TagRow(
                workspace=workspace,
                endpoint=endpoint,
                deployment=deployment,
                name=name,
                value=value,
            )
        )


# --- budgets -----------------------------------------------------------------------------------


async def budgets(session: AsyncSession, workspace: str = "") -> Sequence[BudgetRow]:
    """Budgets of a workspace, or all."""
    query = select(BudgetRow).order_by(BudgetRow.workspace, BudgetRow.name)
    if workspace:
        query = query.where(BudgetRow.workspace == workspace)
    return (await session.exec(query)).all()


async def alerted(session: AsyncSession, row: BudgetRow, period_since: float) -> list[float]:
    """Thresholds that were told of in a period."""
    query = select(AlertRow.threshold).where(
        AlertRow.workspace == row.workspace,
        AlertRow.name == row.name,
        AlertRow.generation == row.generation,
        AlertRow.period_since == period_since,
    )
    return sorted((await session.exec(query)).all())


async def delete_budget(session: AsyncSession, workspace: str, name: str) -> bool:
    """Whether there was one."""
    row = await session.get(BudgetRow, (workspace, name))
    if row is None:
        return False
    await session.delete(row)
    await session.exec(
        delete(AlertRow).where(col(AlertRow.workspace) == workspace, col(AlertRow.name) == name)
    )
    return True


# --- metrics -----------------------------------------------------------------------------------


async def metric_rows(session: AsyncSession, query: QueryMetrics) -> Sequence[MetricRow]:
    """Minutes of an endpoint, or of one of its deployments."""
    wanted = select(MetricRow).where(
        MetricRow.workspace == query.workspace,
        MetricRow.endpoint == query.endpoint,
        MetricRow.minute >= query.since,
        MetricRow.minute < query.until,
    )
    if query.deployment:
        wanted = wanted.where(MetricRow.deployment == query.deployment)
    return (await session.exec(wanted.order_by(col(MetricRow.minute)))).all()


async def forget_metrics(session: AsyncSession, before: float, rows_max: int) -> None:
    """Remove what is too old, and the oldest of what is too much."""
    await session.exec(delete(MetricRow).where(col(MetricRow.minute) < before))
    count = (await session.exec(select(func.count()).select_from(MetricRow))).one()
    if count > rows_max:
        minutes = select(MetricRow.minute).order_by(col(MetricRow.minute))
        last = (await session.exec(minutes.offset(count - rows_max - 1).limit(1))).one()
        await session.exec(delete(MetricRow).where(col(MetricRow.minute) <= last))
