"""Routes of costs and budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, plain
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Json, Problems, Shape, checked, choice
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, answer_removal
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.metering import (
    Budget,
    BudgetsReply,
    BudgetStanding,
    Cost,
    CostGroup,
    CostsReply,
    DeleteBudget,
    GetCosts,
    Grain,
    ListBudgets,
    PutBudget,
    Scope,
)
from headgate_contracts.resources import OptionalName

_BUDGETS = f"{WORKSPACE}/budgets"
_BUDGET = f"{_BUDGETS}/{{name}}"
_SINCE_DEFAULT = "30d"


class CostQuestion(Value):
    """What is asked. Times are ages such as ``7d``, or RFC 3339."""

    by: CostGroup = CostGroup.ENDPOINT
    since: str = _SINCE_DEFAULT
    until: str = ""
    endpoint: OptionalName = ""
    deployment: OptionalName = ""
    tag: str = ""


class BudgetBody(Value):
    """A budget without its name and workspace, which the path says."""

    amount: float = Field(gt=0, le=limits.BUDGET_AMOUNT_MAX)
    grain: Grain = Grain.MONTH
    thresholds: tuple[float, ...] = Field(
        (50.0, 80.0, 100.0), min_length=1, max_length=limits.BUDGET_THRESHOLDS_MAX
    )
    endpoint: OptionalName = ""
    deployment: OptionalName = ""
    tag: str = ""


_SCOPE_NAMES = ("endpoint", "deployment", "tag")
_SCOPE = tuple(Row(name, name) for name in _SCOPE_NAMES)
_QUESTION = Shape(
    Row("by", "by", choice({each.value: each.value for each in CostGroup})),
    Row("since", "since"),
    Row("until", "until"),
    *_SCOPE,
)
_PROPERTIES = Shape(
    Row("amount", "amount"),
    Row("timeGrain", "grain", choice({each.value: each.value for each in Grain})),
    Row("thresholds", "thresholds"),
    *_SCOPE,
    ignored=("currentSpend", "currency", "periodStart", "periodEnd", "alerted"),
)
_BODY = Shape(Row("properties", "", _PROPERTIES), ignored=("id", "name", "type"))
_AMOUNT: Json = {"type": "number", "minimum": 0}
_AMOUNTS: Json = {"type": "array", "items": _AMOUNT}
_COST = plain(
    "Cost",
    group=TEXT,
    requests=COUNT,
    mirroredRequests=COUNT,
    batchRequests=COUNT,
    requestBytes=COUNT,
    responseBytes=COUNT,
    computeSeconds=_AMOUNT,
    instanceSeconds=_AMOUNT,
    instanceCost=_AMOUNT,
    nodeSeconds=_AMOUNT,
    nodeCost=_AMOUNT,
    trafficCost=_AMOUNT,
    cost=_AMOUNT,
)
_COSTS = plain(
    "Costs",
    currency=TEXT,
    since=TIME,
    until=TIME,
    rows={"type": "array", "items": _COST},
    total=_COST,
    isCut={"type": "boolean"},
)
_STANDING = plain(
    "Budget",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    properties=plain(
        "BudgetProperties",
        amount=_AMOUNT,
        timeGrain={"type": "string", "enum": [each.value for each in Grain]},
        thresholds=_AMOUNTS,
        endpoint=TEXT,
        deployment=TEXT,
        tag=TEXT,
        currentSpend=_AMOUNT,
        currency=TEXT,
        periodStart=TIME,
        periodEnd=TIME,
        alerted=_AMOUNTS,
    ),
)


class Costs:
    """Handlers of costs and budgets."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def query(self, call: Call) -> web.StreamResponse:
        """Costs of the workspace, or of a part of it: costs outlive what caused them."""
        problems = Problems()
        values = _QUESTION.load(await call.json(), problems)
        asked = checked(CostQuestion, values, _QUESTION, problems)
        now = self._backend.clock.now()
        query = GetCosts(
            scope=_scope(call, asked),
            by=asked.by,
            since=_time("since", asked.since, now),
            until=_time("until", asked.until, now) if asked.until else None,
        )
        reply = await self._backend.ask(query, CostsReply, _QUESTION)
        return answer(
            {
                "currency": reply.currency,
                "since": timestamp(reply.since),
                "until": timestamp(reply.until),
                "rows": [_cost(row) for row in reply.rows],
                "total": _cost(reply.total),
                "isCut": reply.is_cut,
            }
        )

    async def list_all(self, call: Call) -> web.StreamResponse:
        found = await self._budgets(call, "")
        return answer(page([_resource(each, call) for each in found]))

    async def get(self, call: Call) -> web.StreamResponse:
        (found,) = await self._budgets(call, call.params["name"])
        return answer(_resource(found, call))

    async def put(self, call: Call) -> web.StreamResponse:
        problems = Problems()
        values = _BODY.load(await call.json(), problems)
        given = checked(BudgetBody, values, _BODY, problems)
        about = {
            "name": call.params["name"],
            "scope": _scope(call, given).model_dump(),
            **given.model_dump(mode="json", exclude=set(_SCOPE_NAMES)),
        }
        budget = checked(Budget, about, _BODY, problems)
        reply = await self._backend.ask(PutBudget(budget=budget), BudgetsReply, _BODY)
        return answer(_resource(reply.budgets[0], call))

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteBudget(workspace=call.workspace, name=call.params["name"])
        return await answer_removal(self._backend, command)

    async def _budgets(self, call: Call, name: str) -> tuple[BudgetStanding, ...]:
        query = ListBudgets(workspace=call.workspace, name=name)
        return (await self._backend.ask(query, BudgetsReply)).budgets

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "POST",
                f"{WORKSPACE}/costs/query",
                self.query,
                "Add costs up by endpoint, deployment, day, key or tag",
                body=arm_schema.describe(_QUESTION, CostQuestion),
                reply=_COSTS,
                action=Action.READ,
            ),
            Route("GET", _BUDGETS, self.list_all, "List budgets", reply=list_of(_STANDING)),
            Route("GET", _BUDGET, self.get, "Read a budget and what is spent", reply=_STANDING),
            Route(
                "PUT",
                _BUDGET,
                self.put,
                "Create or replace a budget",
                body=arm_schema.describe(_BODY, BudgetBody),
                reply=_STANDING,
            ),
            Route(
                "DELETE",
                _BUDGET,
                self.delete,
                "Delete a budget",
                answers=REMOVALS,
            ),
        )


def _scope(call: Call, asked: CostQuestion | BudgetBody) -> Scope:
    return Scope(
        workspace=call.workspace,
        endpoint=asked.endpoint,
        deployment=asked.deployment,
        tag=asked.tag,
    )


def _time(field: str, text: str, now: float) -> float:
    try:
        return core.read_since(text, now)
    except HeadgateError:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{field} is an age such as 12h or 7d, or a time such as 2030-01-31T12:00:00Z",
            target=f"/{field}",
        ) from None


_COST_NAMES: Mapping[str, str] = {
    "group": "group",
    "requests": "requests",
    "mirrored": "mirroredRequests",
    "batch": "batchRequests",
    "request_bytes": "requestBytes",
    "response_bytes": "responseBytes",
    "compute_s": "computeSeconds",
    "instance_s": "instanceSeconds",
    "instance_cost": "instanceCost",
    "node_s": "nodeSeconds",
    "node_cost": "nodeCost",
    "traffic_cost": "trafficCost",
    "cost": "cost",
}


def _cost(row: Cost) -> Json:
    values: dict[str, Any] = row.model_dump()
    return {wire: values[name] for name, wire in _COST_NAMES.items()}


def _resource(standing: BudgetStanding, call: Call) -> Json:
    budget, scope = standing.budget, standing.budget.scope
    return {
        "id": f"{call.context.workspace_id}/budgets/{budget.name}",
        "name": budget.name,
        "type": "Microsoft.Consumption/budgets",
        "properties": {
            "amount": budget.amount,
            "timeGrain": budget.grain.value,
            "thresholds": list(budget.thresholds),
            "endpoint": scope.endpoint,
            "deployment": scope.deployment,
            "tag": scope.tag,
            "currentSpend": standing.spent,
            "currency": standing.currency,
            "periodStart": timestamp(standing.period_since),
            "periodEnd": timestamp(standing.period_until),
            "alerted": list(standing.alerted),
        },
    }
