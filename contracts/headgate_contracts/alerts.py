"""Alert rules: events that a workspace wants to be told of by webhook, and their deliveries.

A delivery is a POST of JSON to the rule's address, tried again until it is answered with 2xx, so it
comes at least once: receivers know repeats by the delivery's id. It is signed with the rule's
secret, which is told once, when the rule is made.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Command, Done, Query, Reply, Value

URL_CHARS_MAX = 2_048
SECRET_CHARS_MIN = 16


class Topic(StrEnum):
    """What a rule is about."""

    BUDGET_ALERTED = "budget_alerted"
    SLA_BURNING = "sla_burning"
    SLA_RECOVERED = "sla_recovered"
    QUOTA_REFUSED = "quota_refused"
    DEPLOYMENT_FAILED = "deployment_failed"
    AUTOSCALE_FAILED = "autoscale_failed"
    JOB_FAILED = "job_failed"
    TEST = "test"


class AlertRule(Value):
    """Which events go where. ``endpoint``: only those about it; empty: all of the workspace."""

    workspace: str
    name: str = Field(pattern=limits.ASSET_NAME_PATTERN)
    topics: tuple[Topic, ...] = Field(min_length=1, max_length=len(Topic))
    url: str = Field(min_length=1, max_length=URL_CHARS_MAX)
    endpoint: str = Field("", max_length=64)
    is_enabled: bool = True


class PutAlertRule(Command):
    """Make a rule, or replace the one of this name. Without ``secret`` it keeps its own, or gets
    one that the reply tells.
    """

    TYPE: ClassVar[str] = "headgate.metering.command.v1.put_alert_rule"

    rule: AlertRule
    secret: str = Field("", max_length=256)


class DeleteAlertRule(Command):
    """The rule goes with its deliveries."""

    TYPE: ClassVar[str] = "headgate.metering.command.v1.delete_alert_rule"

    workspace: str
    name: str


class SendTestAlert(Command):
    """Deliver something that says that it is a test."""

    TYPE: ClassVar[str] = "headgate.metering.command.v1.send_test_alert"

    workspace: str
    name: str


class ListAlertRules(Query):
    TYPE: ClassVar[str] = "headgate.metering.query.v1.list_alert_rules"

    workspace: str
    name: str = Field("", description="only this one; an error when there is none")


class ListDeliveries(Query):
    """The latest first."""

    TYPE: ClassVar[str] = "headgate.metering.query.v1.list_deliveries"

    workspace: str
    rule: str = ""
    limit: int = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


class AlertRuleStanding(Value):
    """A rule, and how its deliveries fare."""

    rule: AlertRule
    waiting: int = 0
    delivered: int = 0
    given_up: int = 0


class AlertRulesReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.alert_rules"

    rules: tuple[AlertRuleStanding, ...]
    secret: str = Field("", description="of a rule that has just been made without one")


class DeliveryState(StrEnum):
    """Waiting ones are tried again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Delivery(Value):
    """One event on its way to one rule's address. ``status``: the last answer's; 0: there was none.

    ``due_at``: when it is tried next.
    """

    id: str
    workspace: str
    rule: str
    topic: Topic
    event_id: str
    state: DeliveryState
    created_at: float
    attempts: int = 0
    due_at: float | None = None
    ended_at: float | None = None
    status: int = 0
    error: str = ""


class DeliveriesReply(Reply):
    TYPE: ClassVar[str] = "headgate.metering.reply.v1.deliveries"

    deliveries: tuple[Delivery, ...]


ANSWERS: dict[type[Command] | type[Query], type[Reply]] = {
    PutAlertRule: AlertRulesReply,
    DeleteAlertRule: Done,
    SendTestAlert: DeliveriesReply,
    ListAlertRules: AlertRulesReply,
    ListDeliveries: DeliveriesReply,
}
