"""The metering service's tables. Times are whole seconds where they begin a minute or an hour."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime import intake
from headgate.runtime.outbox import SERIAL, SQLITE_ARGS, OutboxRow

VERSION_TABLE = "metering_version"
_tables = registry()
metadata = _tables.metadata


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


def _count() -> Any:
    return Field(default=0, sa_type=BigInteger)


class UsageRow(Row, table=True):
    """Requests that began in a minute, or (after some days) in an hour."""

    __tablename__ = "metering_usage"
    __table_args__ = (Index("metering_usage_by_workspace", "workspace", "begins"),)

    begins: int = Field(primary_key=True, sa_type=BigInteger)
    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    caller: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    status: int = Field(primary_key=True, sa_type=BigInteger)
    requests: int = _count()
    request_bytes: int = _count()
    response_bytes: int = _count()
    compute_us: int = _count()


class ReporterRow(Row, table=True):
    """The highest key that was taken in of a reporter."""

    __tablename__ = "metering_reporter"

    reporter: str = Field(primary_key=True)
    epoch: int = Field(sa_type=BigInteger)
    sequence: int = Field(sa_type=BigInteger)
    seen_at: float = Field(index=True)


class InstanceRow(Row, table=True):
    """A time in which an instance ran at one price; ``ended_at`` None: it runs."""

    __tablename__ = "metering_instance"
    __table_args__ = (Index("metering_instance_by_workspace", "workspace", "ended_at"),)

    instance: str = Field(primary_key=True)
    began_at: float = Field(primary_key=True)
    ended_at: float | None = None
    workspace: str
    endpoint: str
    deployment: str
    instance_type: str
    price_per_hour: str = Field(description="a decimal number")
    seen_at: float | None = None
    job: str = Field(default="", description="name of the batch job that it was a node of")


class PriceRow(Row, table=True):
    """What a GB of answers costs from a time on."""

    __tablename__ = "metering_price"

    since: float = Field(primary_key=True)
    price_per_gb: str


class TagRow(Row, table=True):
    """The tags of a deployment, its endpoint's included, as last seen: they outlive it."""

    __tablename__ = "metering_tag"

    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)


class BudgetRow(Row, table=True):
    """A budget as the JSON of its contract value; ``generation`` is another after each change."""

    __tablename__ = "metering_budget"

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    generation: str
    value: str = Field(sa_type=Text)


class AlertRow(Row, table=True):
    """An alert that was told of."""

    __tablename__ = "metering_alert"

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    generation: str = Field(primary_key=True)
    period_since: float = Field(primary_key=True)
    threshold: float = Field(primary_key=True)


class MetricRow(Row, table=True):
    """What a minute of an endpoint, a deployment or an instance adds to metrics, as JSON."""

    __tablename__ = "metering_metric"
    __table_args__ = (Index("metering_metric_by_minute", "minute"),)

    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    minute: int = Field(primary_key=True, sa_type=BigInteger)
    deployment: str = Field(primary_key=True)
    instance: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)


class PositionRow(Row, intake.PositionRow, table=True):
    __tablename__ = "metering_position"


class MeteringOutboxRow(Row, OutboxRow, table=True):
    __tablename__ = "metering_outbox"
    __table_args__ = (SQLITE_ARGS,)


class SliRow(Row, table=True):
    """Requests of an endpoint in a minute, or (after a day) an hour, as service levels see them."""

    __tablename__ = "metering_sli"

    begins: int = Field(primary_key=True, sa_type=BigInteger)
    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    good: int = _count()
    bad: int = _count()
    excluded: int = _count()
    fast: float = 0.0
    measured: int = _count()


class ObjectiveRow(Row, table=True):
    """The objective of an endpoint, where it has one of its own, as JSON."""

    __tablename__ = "metering_objective"

    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)


class SlaAlertRow(Row, table=True):
    """An alert that has been told of and is not over."""

    __tablename__ = "metering_sla_alert"

    workspace: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    indicator: str = Field(primary_key=True)
    severity: str = Field(primary_key=True)
    since: float


class AlertRuleRow(Row, table=True):
    """A rule as JSON; ``sealed`` is its secret."""

    __tablename__ = "metering_alert_rule"

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)
    sealed: str = Field(sa_type=Text)
    created_at: float


class DeliveryRow(Row, table=True):
    """An event on its way to a rule's address; ``body`` is what is sent, the same every time."""

    __tablename__ = "metering_delivery"
    __table_args__ = (
        UniqueConstraint("workspace", "rule", "event_id"),
        Index("metering_delivery_by_due", "state", "due_at"),
        SQLITE_ARGS,
    )

    number: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    id: str
    workspace: str
    rule: str
    topic: str
    event_id: str
    body: str = Field(sa_type=Text)
    state: str
    created_at: float
    due_at: float
    ended_at: float | None = None
    attempts: int = _count()
    status: int = _count()
    error: str = Field(default="", sa_type=Text)
