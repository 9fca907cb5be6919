"""What the metering service answers and says: costs and budgets.

Money is in the currency of the price list, as a number with at most six decimals. Times are Unix
seconds. Costs are counted by whole hours (UTC): of running instances by the second, of traffic by
the bytes of answers, a GB being 10^9 of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Done, Event, Query, Reply, Value

SERVICE = "metering"


class CostGroup(StrEnum):
    """What costs are added up by."""

    ENDPOINT = "endpoint"
    DEPLOYMENT = "deployment"
    DAY = "day"
    KEY = "key"
    TAG = "tag"
    JOB = "job"


class Scope(Value):
    """Of what: a workspace, or an endpoint of it, a deployment, or what carries a tag."""

    workspace: str
    endpoint: str = ""
    deployment: str = ""
    tag: str = Field("", max_length=limits.TAG_CHARS_MAX, description="name=value")


class GetCosts(Query):
    """Costs of the hours from that of ``since`` up to ``until`` (None: now).

    By key, an hour's instances are shared by the time that the requests of each key computed in
    it; an hour without any is nobody's (an empty group). By tag, one row per name and value: what
    has several tags is in several rows. By job, what is no batch job's has an empty group.
    """

    TYPE: ClassVar[str] = "headgate.metering.query.v1.get_costs"

    scope: Scope
    by: CostGroup = CostGroup.ENDPOINT
    since: float
    until: float | None = None


class Cost(Value):
    """``group``: endpoint, endpoint/deployment, day (2030-01-31), key id, name=value, or job.

    Instances are those of online deployments, nodes those of batch jobs.
    """

    group: str = ""
    requests: int = Field(0, description="answered to clients, whatever the status")
    mirrored: int = 0
    batch: int = Field(0, description="mini-batches of batch jobs that were settled")
    request_bytes: int = 0
    response_bytes: int = Field(0, description="to clients; this is the traffic that costs")
    compute_s: float = Field(
        0.0, description="execution of models, with mirrored requests and mini-batches"
    )
    instance_s: float = 0.0
    instance_cost: float = 0.0
    node_s: float = 0.0
    node_cost: float = 0.0
    traffic_cost: float = 0.0
    cost: float = 0.0


class CostsReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.costs"

    currency: str
    since: float
    until: float
    rows: tuple[Cost, ...] = Field(description="the dearest first, days in their order")
    total: Cost
    is_cut: bool = Field(False, description="there are more rows than one answer holds")


class Grain(StrEnum):
    """The period of a budget, in UTC; weeks begin on Mondays."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Budget(Value):
    """How much may be spent in each period, and at which shares of it somebody is told."""

    name: str = Field(pattern=limits.ASSET_NAME_PATTERN)
    scope: Scope
    amount: float = Field(gt=0, le=limits.BUDGET_AMOUNT_MAX)
    grain: Grain = Grain.MONTH
    thresholds: tuple[float, ...] = Field(
        (50.0, 80.0, 100.0),
        min_length=1,
        max_length=limits.BUDGET_THRESHOLDS_MAX,
        description="per cent of the amount",
    )


class PutBudget(Command):
    """Make a budget, or replace the one of this name: then its alerts begin anew."""

    TYPE: ClassVar[str] = "headgate.metering.command.v1.put_budget"

    budget: Budget


class DeleteBudget(Command):
    TYPE: ClassVar[str] = "headgate.metering.command.v1.delete_budget"

    workspace: str
    name: str


class ListBudgets(Query):
    TYPE: ClassVar[str] = "headgate.metering.query.v1.list_budgets"

    workspace: str
    name: str = Field("", description="only this one; an error when there is none")


class BudgetStanding(Value):
    """A budget, and how much of it is spent in the period of now."""

    budget: Budget
    spent: float
    currency: str
    period_since: float
    period_until: float
    alerted: tuple[float, ...] = Field((), description="thresholds that have been told of")


class BudgetsReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.budgets"

    budgets: tuple[BudgetStanding, ...]


class BudgetAlerted(Event):
    """More than a share of a budget is spent; told once per threshold and period."""

    TYPE: ClassVar[str] = "headgate.metering.event.v1.budget_alerted"

    workspace: str
    budget: str
    threshold_percent: float
    amount: float
    spent: float
    currency: str
    period_since: float
    period_until: float

    def subject(self) -> str:
        return subjects.event("budget", subjects.tamed(self.budget), "alerted")


ANSWERS: dict[type[Command] | type[Query], type[Reply]] = {
    GetCosts: CostsReply,
    PutBudget: BudgetsReply,
    DeleteBudget: Done,
    ListBudgets: BudgetsReply,
}
