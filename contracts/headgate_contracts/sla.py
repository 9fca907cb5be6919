"""Service levels of endpoints: objectives, how they are kept, and alerts when they are not.

Availability is the share of requests that were answered well, of those that could have been: what a
client does wrong counts as neither. Latency is the share that was answered within a time. Where
there were no requests both are unknown (None), never 100 %.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Done, Event, Query, Reply, Value

AVAILABILITY_PERCENT = 99.9
LATENCY_PERCENT = 95.0
WINDOW_DAYS = 30


class Indicator(StrEnum):
    """What is measured."""

    AVAILABILITY = "availability"
    LATENCY = "latency"


class Severity(StrEnum):
    """How soon somebody should look: at once, or in working hours."""

    PAGE = "page"
    TICKET = "ticket"


class Objective(Value):
    """What an endpoint should keep over a time. ``latency_ms`` 0: nothing about latency."""

    workspace: str
    endpoint: str = Field(max_length=64)
    availability_percent: float = Field(AVAILABILITY_PERCENT, gt=0, lt=100)
    latency_ms: float = Field(0.0, ge=0, le=limits.REQUEST_TIMEOUT_MS_MAX)
    latency_percent: float = Field(LATENCY_PERCENT, gt=0, lt=100)
    window_days: int = Field(WINDOW_DAYS, ge=1, le=limits.SLA_WINDOW_DAYS_MAX)


class PutObjective(Command):
    """Set the objective of an endpoint."""

    TYPE: ClassVar[str] = "headgate.metering.command.v1.put_objective"

    objective: Objective


class DeleteObjective(Command):
    """Back to the objective that every endpoint has."""

    TYPE: ClassVar[str] = "headgate.metering.command.v1.delete_objective"

    workspace: str
    endpoint: str


class GetSla(Query):
    """How endpoints keep their objectives: those that are named, or all with requests."""

    TYPE: ClassVar[str] = "headgate.metering.query.v1.get_sla"

    workspace: str
    endpoints: tuple[str, ...] = Field((), max_length=limits.ENDPOINTS_MAX)


class SlaWindow(Value):
    """Requests of a time up to now. Burn rate 1: the budget lasts exactly for its window.

    ``good`` + ``bad`` are those that count, ``excluded`` failed by their client's doing;
    ``fast`` of ``measured`` were within the latency that is wanted.
    """

    seconds: int
    good: int = 0
    bad: int = 0
    excluded: int = 0
    availability_percent: float | None = None
    availability_burn: float | None = None
    measured: int = 0
    fast: float = 0.0
    latency_percent: float | None = None
    latency_burn: float | None = None


class SlaAlert(Value):
    """A budget that burns too fast, and since when."""

    indicator: Indicator
    severity: Severity
    since: float


class SlaStanding(Value):
    """How an endpoint keeps its objective. The last window is that of the objective.

    ``..._budget_left_percent``: of the failures that the objective allows, below 0 when there were
    more; None when there were no requests.
    """

    objective: Objective
    is_default: bool = False
    windows: tuple[SlaWindow, ...]
    availability_budget_left_percent: float | None = None
    latency_budget_left_percent: float | None = None
    alerts: tuple[SlaAlert, ...] = ()


class SlaReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.sla"

    standings: tuple[SlaStanding, ...]


class SlaEvent(Event):
    """Base of what is told of an error budget."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    indicator: Indicator
    severity: Severity
    objective_percent: float
    message: str

    def subject(self) -> str:
        return subjects.event("sla", self.endpoint, self.WHAT)


class SlaBurning(SlaEvent):
    """The budget burns so fast, over a long window and a short one, that somebody should look."""

    TYPE: ClassVar[str] = "headgate.metering.event.v1.sla_burning"
    WHAT: ClassVar[str] = "burning"

    burn_rate: float
    threshold: float
    long_window_s: int
    short_window_s: int


class SlaRecovered(SlaEvent):
    """It does not any more."""

    TYPE: ClassVar[str] = "headgate.metering.event.v1.sla_recovered"
    WHAT: ClassVar[str] = "recovered"

    since: float = Field(description="when it began, Unix time")


ANSWERS: dict[type[Command] | type[Query], type[Reply]] = {
    PutObjective: SlaReply,
    DeleteObjective: Done,
    GetSla: SlaReply,
}
