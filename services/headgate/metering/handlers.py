"""The metering service's answers: costs and budgets."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.metering import accounts, core, state
from headgate.metering.rows import BudgetRow
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.metering import (
    BudgetsReply,
    CostsReply,
    DeleteBudget,
    GetCosts,
    ListBudgets,
    PutBudget,
    Scope,
)


class Handlers:
    """Answers from the database."""

    def __init__(self, database: Database, clock: Clock, currency: str) -> None:
        self._database = database
        self._clock = clock
        self._currency = currency

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            GetCosts: self.get_costs,
            PutBudget: self.put_budget,
            DeleteBudget: self.delete_budget,
            ListBudgets: self.list_budgets,
        }

    async def get_costs(self, query: GetCosts) -> CostsReply:
        now = self._clock.now()
        since = float(core.hour_of(query.since))
        until = now if query.until is None else min(now, float(core.hour_of(query.until)))
        _check_tag(query.scope)
        async with self._database.reading() as session:
            rows, total = await accounts.costs(session, query.scope, query.by, since, until)
        return CostsReply(
            currency=self._currency,
            since=since,
            until=max(since, until),
            rows=tuple(rows[: limits.COST_ROWS_MAX]),
            total=total,
            is_cut=len(rows) > limits.COST_ROWS_MAX,
        )

    async def put_budget(self, command: PutBudget) -> BudgetsReply:
        budget, workspace = command.budget, command.budget.scope.workspace
        _check_tag(budget.scope)
        most = limits.BUDGET_THRESHOLD_PERCENT_MAX
        if any(not 0 < each <= most for each in budget.thresholds):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"thresholds are per cent of the amount: above 0, at most {most}",
                target="thresholds",
            )
        row = BudgetRow(
            workspace=workspace,
            name=budget.name,
            generation=new_id(),
            value=budget.model_dump_json(),
        )
        async with self._database.transaction() as session:
            known = await session.get(BudgetRow, (workspace, budget.name))
            if known is not None and known.value == row.value:
                row = known
            elif known is None and len(await state.budgets(session, workspace)) >= _MAX:
                raise HeadgateError(
                    ErrorCode.OUT_OF_QUOTA, f"a workspace has at most {_MAX} budgets"
                )
            else:
                await state.delete_budget(session, workspace, budget.name)
                await session.flush()
                session.add(row)
        return await self.list_budgets(ListBudgets(workspace=workspace, name=budget.name))

    async def delete_budget(self, command: DeleteBudget) -> Done:
        async with self._database.transaction() as session:
            if not await state.delete_budget(session, command.workspace, command.name):
                raise _no_budget(command.name)
        return Done()

    async def list_budgets(self, query: ListBudgets) -> BudgetsReply:
        now = self._clock.now()
        async with self._database.reading() as session:
            rows = [
                row
                for row in await state.budgets(session, query.workspace)
                if query.name in ("", row.name)
            ]
            if query.name and not rows:
                raise _no_budget(query.name)
            found = [await accounts.standing(session, row, now, self._currency) for row in rows]
        return BudgetsReply(budgets=tuple(found))


_MAX = limits.BUDGETS_PER_WORKSPACE_MAX


def _check_tag(scope: Scope) -> None:
    if scope.tag and "=" not in scope.tag:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, "a tag is written as name=value", target="tag")


def _no_budget(name: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, f"there is no budget {name[:80]!r}", target="name"
    )
