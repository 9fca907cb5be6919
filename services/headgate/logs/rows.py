"""The tables of the logs service. Rows are numbered in the order in which they came."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime import intake
from headgate.runtime.outbox import SERIAL, SQLITE_ARGS
from headgate_contracts.logs import Log

VERSION_TABLE = "logs_version"
_tables = registry()
metadata = _tables.metadata


def _serial() -> Any:
    return Field(default=None, primary_key=True, sa_type=SERIAL)


def _indexes(table: str, *more: str) -> tuple[Any, ...]:
    """By owner and time, which every question has, and by what else rows are looked up."""
    found = [Index(f"{table}_by_time", "workspace", "at"), Index(f"{table}_by_owner", "endpoint")]
    found += [Index(f"{table}_by_{name}", "workspace", name) for name in more]
    return (*found, SQLITE_ARGS)


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


class TrafficRow(Row, table=True):
    __tablename__ = "logs_traffic"
    __table_args__ = _indexes("logs_traffic", "request_id")

    id: int | None = _serial()
    at: float
    workspace: str
    endpoint: str
    deployment: str
    method: str
    path: str
    protocol: str
    status: int = Field(sa_type=BigInteger)
    reason: str
    model_status: int | None = Field(default=None, sa_type=BigInteger)
    model_reason: str
    request_bytes: int = Field(sa_type=BigInteger)
    response_bytes: int = Field(sa_type=BigInteger)
    user_agent: str
    request_id: str
    client_request_id: str
    total_ms: float
    request_ms: float
    response_ms: float | None = None


class ConsoleRow(Row, table=True):
    __tablename__ = "logs_console"
    __table_args__ = _indexes("logs_console", "request_id")

    id: int | None = _serial()
    at: float
    workspace: str
    endpoint: str
    deployment: str
    instance: str
    container: str
    level: str
    request_id: str
    message: str = Field(sa_type=Text)


class EventRow(Row, table=True):
    __tablename__ = "logs_event"
    __table_args__ = _indexes("logs_event")

    id: int | None = _serial()
    at: float
    workspace: str
    endpoint: str
    deployment: str
    instance: str
    container: str
    name: str
    message: str = Field(sa_type=Text)


class TraceRow(Row, table=True):
    __tablename__ = "logs_trace"
    __table_args__ = _indexes("logs_trace", "request_id", "trace_id")

    id: int | None = _serial()
    at: float
    workspace: str
    endpoint: str
    deployment: str
    instance: str
    router: str
    request_id: str
    status: int = Field(sa_type=BigInteger)
    reason: str
    tries: int = Field(sa_type=BigInteger)
    in_parts: int = Field(sa_type=BigInteger)
    request_bytes: int = Field(sa_type=BigInteger)
    response_bytes: int = Field(sa_type=BigInteger)
    total_ms: float
    edge_ms: float
    queue_ms: float
    bus_ms: float | None = None
    worker_ms: float | None = None
    model_ms: float | None = None
    answer_ms: float | None = None
    trace_id: str
    span_id: str
    parent_id: str


class LossRow(Row, table=True):
    """How many rows of a minute were left out."""

    __tablename__ = "logs_loss"

    workspace: str = Field(primary_key=True)
    log: str = Field(primary_key=True)
    minute: int = Field(primary_key=True, sa_type=BigInteger)
    rows: int = Field(sa_type=BigInteger)


class PositionRow(Row, intake.PositionRow, table=True):
    __tablename__ = "logs_position"


AnyRow = type[TrafficRow] | type[ConsoleRow] | type[EventRow] | type[TraceRow]
ROWS: dict[Log, AnyRow] = {
    Log.TRAFFIC: TrafficRow,
    Log.CONSOLE: ConsoleRow,
    Log.EVENTS: EventRow,
    Log.TRACES: TraceRow,
}
