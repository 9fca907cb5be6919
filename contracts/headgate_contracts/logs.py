"""The log tables: what their writers say, what is asked of them, what their columns are.

Names and columns of the tables are Azure's (``AmlOnlineEndpointTrafficLog`` and its sisters), so
that a query that somebody has in their head finds what it expects. Columns that are ours come
last, and are shown only when they are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Event, Query, Reply, Value

SERVICE = "logs"

Scalar = str | int | float | None


class Log(StrEnum):
    """The tables, by the short names that people type."""

    TRAFFIC = "traffic"
    CONSOLE = "console"
    EVENTS = "events"
    TRACES = "traces"


class ColumnType(StrEnum):
    """Types as Log Analytics names them."""

    STRING = "string"
    LONG = "long"
    REAL = "real"
    DATETIME = "datetime"


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its public name. ``field`` is that of the row; empty where all rows say the same.

    ``is_own``: Azure's table has no such column.
    """

    name: str
    type: ColumnType
    field: str
    description: str
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class LogTable:
    """One table."""

    log: Log
    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns of an answer when none are named: Azure's."""
        return tuple(column.name for column in self.columns if not column.is_own)


def _text(name: str, field: str, description: str, *, is_own: bool = False) -> Column:
    return Column(name, ColumnType.STRING, field, description, is_own)


def _ms(name: str, field: str, description: str) -> Column:
    return Column(name, ColumnType.REAL, field, description)


_TIME = Column("TimeGenerated", ColumnType.DATETIME, "at", "when it happened, UTC")
_OPERATION = _text("OperationName", "", "what the rows of this table tell of")
_INSTANCE = _text("InstanceId", "instance", "the instance; empty: what is done once for all")
_DEPLOYMENT = _text("DeploymentName", "deployment", "the deployment; empty: none was reached")
_ENDPOINT = _text("EndpointName", "endpoint", "the endpoint")
_CONTAINER = _text("ContainerName", "container", "the part of the instance that it comes from")

TRAFFIC = LogTable(
    Log.TRAFFIC,
    "AmlOnlineEndpointTrafficLog",
    "one row per scoring request",
    (
        _TIME,
        _text("Method", "method", "HTTP method"),
        _text("Path", "path", "path below the endpoint, without the query"),
        _text("SubscriptionId", "", "the subscription that the question was addressed to"),
        _text("AzureMLWorkspaceId", "", "resource id of the workspace"),
        _text("AzureMLWorkspaceName", "", "the workspace"),
        _ENDPOINT,
        _DEPLOYMENT,
        _text("Protocol", "protocol", "HTTP/1.1, HTTP/1.0 or NATS"),
        Column("ResponseCode", ColumnType.LONG, "status", "the status that the client got"),
        _text("ResponseCodeReason", "reason", "its phrase, or the code of the refusal"),
        Column(
            "ModelStatusCode",
            ColumnType.LONG,
            "model_status",
            "the status that the model gave; null: it was not reached, or gave none",
        ),
        _text("ModelStatusReason", "model_reason", "its phrase"),
        Column("RequestPayloadSize", ColumnType.LONG, "request_bytes", "bytes of the body"),
        Column("ResponsePayloadSize", ColumnType.LONG, "response_bytes", "bytes of the answer"),
        _text("UserAgent", "user_agent", "the client's program, its first 70 characters"),
        _text("XRequestId", "request_id", "x-request-id"),
        _text("XMSClientRequestId", "client_request_id", "x-ms-client-request-id"),
        _ms("TotalDurationMs", "total_ms", "from the request's headers to its answer"),
        _ms("RequestDurationMs", "request_ms", "from its headers to the end of its body"),
        _ms("ResponseDurationMs", "response_ms", "to the model's answer; null: there was none"),
        _ms("RequestThrottlingDelayMs", "", "0: nothing is throttled on the way in"),
        _ms("ResponseThrottlingDelayMs", "", "0: nothing is throttled on the way out"),
    ),
)
CONSOLE = LogTable(
    Log.CONSOLE,
    "AmlOnlineEndpointConsoleLog",
    "one row per line that a deployment's code writes, and of its preparation",
    (
        _TIME,
        _OPERATION,
        _INSTANCE,
        _DEPLOYMENT,
        _CONTAINER,
        _text("Message", "message", "the line"),
        _text("EndpointName", "endpoint", "the endpoint", is_own=True),
        _text("Level", "level", "INFO, WARNING, ...; empty: written past Python", is_own=True),
        _text("XRequestId", "request_id", "the request that wrote it; empty: none", is_own=True),
    ),
)
EVENTS = LogTable(
    Log.EVENTS,
    "AmlOnlineEndpointEventLog",
    "one row per event in the life of an instance",
    (
        _TIME,
        _OPERATION,
        _INSTANCE,
        _DEPLOYMENT,
        _CONTAINER,
        _text("Name", "name", "BackOff, Pulled, Killing, Created, Started, ..."),
        _text("Message", "message", "what happened"),
        _text("EndpointName", "endpoint", "the endpoint", is_own=True),
    ),
)
TRACES = LogTable(
    Log.TRACES,
    "HeadgateTraceLog",
    "one row per request that was traced: where its time went",
    (
        _TIME,
        _ENDPOINT,
        _DEPLOYMENT,
        _text("InstanceId", "instance", "the instance that had it last; empty: none"),
        _text("RouterId", "router", "the router that took it"),
        _text("XRequestId", "request_id", "x-request-id"),
        Column("ResponseCode", ColumnType.LONG, "status", "as in the traffic log"),
        _text("ResponseCodeReason", "reason", "the code of the refusal; empty: it was answered"),
        Column("Tries", ColumnType.LONG, "tries", "instances that it was sent to"),
        Column("InParts", ColumnType.LONG, "in_parts", "1: its answer came in parts"),
        Column("RequestPayloadSize", ColumnType.LONG, "request_bytes", "bytes of the body"),
        Column("ResponsePayloadSize", ColumnType.LONG, "response_bytes", "bytes of the answer"),
        _ms("TotalMs", "total_ms", "from the request's headers to the end of its answer"),
        _ms("EdgeMs", "edge_ms", "until its body was there and a deployment was chosen"),
        _ms("QueueMs", "queue_ms", "until it was sent to the instance that had it last"),
        _ms("BusMs", "bus_ms", "on the bus, both ways"),
        _ms("WorkerMs", "worker_ms", "in the instance, outside of run()"),
        _ms("ModelMs", "model_ms", "in run(), with parts until the first"),
        _ms("AnswerMs", "answer_ms", "from the answer, or its first part, to the end"),
        _text("TraceId", "trace_id", "the trace that it is part of"),
        _text("SpanId", "span_id", "the span of the request in it"),
        _text("ParentSpanId", "parent_id", "the caller's span; empty: it named none"),
    ),
)
TABLES: Mapping[Log, LogTable] = {table.log: table for table in (TRAFFIC, CONSOLE, EVENTS, TRACES)}


class TrafficRow(Value):
    """One scoring request as its router saw it."""

    at: float
    workspace: str
    endpoint: str
    deployment: str = ""
    method: str = ""
    path: str = ""
    protocol: str = ""
    status: int
    reason: str = ""
    model_status: int | None = None
    model_reason: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    user_agent: str = ""
    request_id: str = ""
    client_request_id: str = ""
    total_ms: float = 0.0
    request_ms: float = 0.0
    response_ms: float | None = None


class ConsoleRow(Value):
    """One line of a deployment's log."""

    at: float
    workspace: str
    endpoint: str
    deployment: str
    instance: str = ""
    container: str
    level: str = ""
    request_id: str = ""
    message: str


class TraceRow(Value):
    """Where a request's time went, in milliseconds; null: it did not get there.

    Ids of trace and spans are W3C's; ``run_id`` is the span of ``run()``, which the model was told.
    """

    at: float
    workspace: str
    endpoint: str
    deployment: str = ""
    instance: str = ""
    router: str = ""
    request_id: str = ""
    status: int
    reason: str = ""
    tries: int = 0
    in_parts: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    total_ms: float = 0.0
    edge_ms: float = 0.0
    queue_ms: float = 0.0
    bus_ms: float | None = None
    worker_ms: float | None = None
    model_ms: float | None = None
    answer_ms: float | None = None
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    trace_state: str = ""
    run_id: str = ""
    method: str = ""
    path: str = ""


class LogRows(Event):
    """Base of what writers say. ``lost`` counts rows that they left out, by workspace."""

    LOG: ClassVar[Log]

    writer: str
    lost: dict[str, int] = {}

    def subject(self) -> str:
        return subjects.log(self.LOG.value, self.writer)


class TrafficLogged(LogRows):
    """Some requests were answered. Said by routers, a few times a second at most."""

    TYPE: ClassVar[str] = "headgate.logs.event.v1.traffic_logged"
    LOG: ClassVar[Log] = Log.TRAFFIC

    rows: tuple[TrafficRow, ...] = ()


class TraceLogged(LogRows):
    """Some requests were traced. Said by routers, once a second at most."""

    TYPE: ClassVar[str] = "headgate.logs.event.v1.trace_logged"
    LOG: ClassVar[Log] = Log.TRACES

    rows: tuple[TraceRow, ...] = ()


class ConsoleLogged(LogRows):
    """Some lines were written. Said by the provisioner that keeps the log files."""

    TYPE: ClassVar[str] = "headgate.logs.event.v1.console_logged"
    LOG: ClassVar[Log] = Log.CONSOLE

    rows: tuple[ConsoleRow, ...] = ()


class QueryLogs(Query):
    """Rows of one table of one workspace. ``where`` is an expression such as
    ``ResponseCode >= 500 and DeploymentName == 'blue'``.
    """

    TYPE: ClassVar[str] = "headgate.logs.query.v1.query_logs"

    workspace: str
    subscription: str = ""
    workspace_id: str = ""
    table: Log
    endpoint: str = ""
    where: str = Field("", max_length=limits.LOG_WHERE_CHARS_MAX)
    since: float | None = Field(None, description="Unix time of the earliest row")
    until: float | None = Field(None, description="Unix time that all rows are before")
    order: str = Field("newest", pattern="^(newest|oldest)$", description="which rows come first")
    limit: int = Field(limits.LOG_ROWS_DEFAULT, ge=1, le=limits.LOG_ROWS_MAX)
    columns: tuple[str, ...] = Field((), max_length=limits.LOG_COLUMNS_MAX)


class LogColumn(Value):
    """A column of an answer."""

    name: str
    type: str


class LogRowsReply(Reply):
    """Rows in the order of the columns. ``is_cut``: more rows match than are here.

    ``lost`` counts rows of the time asked for that were never stored, because too many came at
    once; ``kept_since`` is the time of the oldest row that is still stored.
    """

    TYPE: ClassVar[str] = "headgate.logs.reply.v1.log_rows"

    table: str
    columns: tuple[LogColumn, ...]
    rows: tuple[tuple[Scalar, ...], ...]
    is_cut: bool = False
    lost: int = 0
    kept_since: float | None = None
