"""What the metering service remembers of alert rules and deliveries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import col, delete, func, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering.rows import AlertRuleRow, DeliveryRow
from headgate_contracts import limits
from headgate_contracts.alerts import AlertRule, Delivery, DeliveryState, Topic

_WAITING = DeliveryState.WAITING.value


async def rules(session: AsyncSession, workspace: str = "") -> Sequence[AlertRuleRow]:
    """Rules of a workspace, or all."""
    query = select(AlertRuleRow).order_by(AlertRuleRow.workspace, AlertRuleRow.name)
    if workspace:
        query = query.where(AlertRuleRow.workspace == workspace)
    return (await session.exec(query)).all()


def rule_of(row: AlertRuleRow) -> AlertRule:
    return AlertRule.model_validate_json(row.value)


async def delete_rule(session: AsyncSession, workspace: str, name: str) -> bool:
    """Forget a rule with its deliveries; whether there was one."""
    row = await session.get(AlertRuleRow, (workspace, name))
    if row is None:
        return False
    await session.delete(row)
    await session.exec(
        delete(DeliveryRow).where(
            col(DeliveryRow.workspace) == workspace, col(DeliveryRow.rule) == name
        )
    )
    return True


async def add(session: AsyncSession, row: DeliveryRow) -> None:
    """Put a delivery into its rule's queue, once for each event; a full queue drops its oldest."""
    of_rule = (DeliveryRow.workspace == row.workspace, DeliveryRow.rule == row.rule)
    known = select(DeliveryRow.number).where(*of_rule, DeliveryRow.event_id == row.event_id)
    if (await session.exec(known)).first() is not None:
        return
    waiting = select(DeliveryRow.number).where(*of_rule, DeliveryRow.state == _WAITING)
    newest_first = waiting.order_by(col(DeliveryRow.number).desc())
    too_many = (await session.exec(newest_first.offset(limits.DELIVERIES_WAITING_MAX - 1))).all()
    if too_many:
        await session.exec(
            update(DeliveryRow)
            .where(col(DeliveryRow.number).in_(too_many))
            .values(
                state=DeliveryState.GIVEN_UP.value,
                ended_at=row.created_at,
                error="newer ones needed its place in the queue",
            )
        )
    session.add(row)
    await session.flush()


async def due(session: AsyncSession, now: float, count: int) -> Sequence[DeliveryRow]:
    """Deliveries whose time has come, the oldest first."""
    query = (
        select(DeliveryRow)
        .where(DeliveryRow.state == _WAITING, DeliveryRow.due_at <= now)
        .order_by(col(DeliveryRow.due_at), col(DeliveryRow.number))
        .limit(count)
    )
    return (await session.exec(query)).all()


async def next_due(session: AsyncSession) -> float | None:
    """When the next delivery is due; None: there is none."""
    query = select(func.min(DeliveryRow.due_at)).where(DeliveryRow.state == _WAITING)
    return (await session.exec(query)).one()


async def deliveries(
    session: AsyncSession, workspace: str, rule: str, limit: int
) -> list[Delivery]:
    """The latest first."""
    query = select(DeliveryRow).where(DeliveryRow.workspace == workspace)
    if rule:
        query = query.where(DeliveryRow.rule == rule)
    rows = await session.exec(query.order_by(col(DeliveryRow.number).desc()).limit(limit))
    return [told(row) for row in rows.all()]


async def counts(session: AsyncSession, workspace: str) -> dict[tuple[str, str], int]:
    """Deliveries by rule and state."""
    query = (
        select(DeliveryRow.rule, DeliveryRow.state, func.count())
        .where(DeliveryRow.workspace == workspace)
        .group_by(DeliveryRow.rule, DeliveryRow.state)
    )
    return {(rule, state): count for rule, state, count in (await session.exec(query)).all()}


async def forget(session: AsyncSession, now: float) -> None:
    """Remove ended deliveries that are old or too many."""
    ended = col(DeliveryRow.state) != _WAITING
    newest = select(DeliveryRow.number).where(ended).order_by(col(DeliveryRow.number).desc())
    edge = (await session.exec(newest.offset(limits.DELIVERIES_KEPT_MAX).limit(1))).first() or 0
    old = col(DeliveryRow.ended_at) < now - limits.DELIVERIES_KEPT_S
    await session.exec(delete(DeliveryRow).where(ended, old | (col(DeliveryRow.number) <= edge)))


def told(row: DeliveryRow) -> Delivery:
    is_waiting = row.state == _WAITING
    return Delivery(
        id=row.id,
        workspace=row.workspace,
        rule=row.rule,
        topic=Topic(row.topic),
        event_id=row.event_id,
        state=DeliveryState(row.state),
        created_at=row.created_at,
        attempts=row.attempts,
        due_at=row.due_at if is_waiting else None,
        ended_at=row.ended_at,
        status=row.status,
        error=row.error,
    )
