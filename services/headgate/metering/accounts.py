"""Adds costs up from what is remembered: for questions, and for budgets."""

from __future__ import annotations

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core, periods, state
from headgate.metering.rows import AlertRow, BudgetRow
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts.metering import (
    Budget,
    BudgetAlerted,
    BudgetStanding,
    Cost,
    CostGroup,
    Scope,
)

_BY_CALLER = (CostGroup.KEY, CostGroup.JOB)


async def costs(
    session: AsyncSession, scope: Scope, by: CostGroup, since: float, until: float
) -> tuple[list[Cost], Cost]:
    """Costs of a scope by group, and all together."""
    used = await state.used(session, scope, since, until, by_caller=by in _BY_CALLER)
    ran = await state.ran(session, scope, since, until)
    tags = await state.tags(session, scope.workspace)
    if scope.tag:
        name, _, value = scope.tag.partition("=")
        wanted = {place for place, found in tags.items() if found.get(name) == value}
        used = [each for each in used if (each.endpoint, each.deployment) in wanted]
        ran = [each for each in ran if (each.endpoint, each.deployment) in wanted]
    prices = await state.gb_prices(session)
    return core.costs(used, ran, prices, tags, by=by, since=since, until=until)


async def standing(
    session: AsyncSession, row: BudgetRow, now: float, currency: str
) -> BudgetStanding:
    """How a budget stands in the period of now."""
    budget = Budget.model_validate_json(row.value)
    since, until = periods.period(budget.grain, now)
    _, total = await costs(session, budget.scope, CostGroup.ENDPOINT, since, min(until, now))
    return BudgetStanding(
        budget=budget,
        spent=total.cost,
        currency=currency,
        period_since=since,
        period_until=until,
        alerted=tuple(await state.alerted(session, row, since)),
    )


class Watch:
    """Looks at all budgets now and then; an alert and its event are one transaction."""

    def __init__(self, database: Database, outbox: Outbox, clock: Clock, currency: str) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._currency = currency

    async def look(self) -> None:
        """Tell of each threshold that was reached, once per period."""
        now = self._clock.now()
        async with self._database.reading() as session:
            rows = await state.budgets(session)
            found = [(row, await standing(session, row, now, self._currency)) for row in rows]
        for row, each in found:
            budget = each.budget
            due = periods.due(each.spent, budget.amount, budget.thresholds, each.alerted)
            if due:
                await self._tell(row, each, due)

    async def _tell(self, row: BudgetRow, standing: BudgetStanding, due: list[float]) -> None:
        async with self._database.transaction() as session:
            known = await session.get(BudgetRow, (row.workspace, row.name))
            if known is None or known.generation != row.generation:
                return
            told = await state.alerted(session, row, standing.period_since)
            for threshold in (each for each in due if each not in told):
                session.add(
                    AlertRow(
                        workspace=row.workspace,
                        name=row.name,
                        generation=row.generation,
                        period_since=standing.period_since,
                        threshold=threshold,
                    )
                )
                event = BudgetAlerted(
                    workspace=row.workspace,
                    budget=row.name,
                    threshold_percent=threshold,
                    amount=standing.budget.amount,
                    spent=standing.spent,
                    currency=self._currency,
                    period_since=standing.period_since,
                    period_until=standing.period_until,
                )
                self._outbox.add(session, [event])
        self._outbox.wake()
