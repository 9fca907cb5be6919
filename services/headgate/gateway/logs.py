"""Routes of the log tables: which there are, and questions about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, or_null, plain
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Json, Problems, Shape, checked, choice
from headgate.azure.arm_resources import page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.logs import TABLES, ColumnType, Log, LogRowsReply, LogTable, QueryLogs

Order = Literal["newest", "oldest"]


class LogQuestion(Value):
    """What is asked of a table. Times are ages such as ``10m``, or RFC 3339."""

    table: Log
    where: str = Field("", max_length=limits.LOG_WHERE_CHARS_MAX)
    since: str = Field("", max_length=64)
    until: str = Field("", max_length=64)
    order: Order = "newest"
    limit: int = Field(limits.LOG_ROWS_DEFAULT, ge=1, le=limits.LOG_ROWS_MAX)
    columns: tuple[str, ...] = Field((), max_length=limits.LOG_COLUMNS_MAX)


_QUESTION = Shape(
    Row("table", "table", choice({table.log.value: table.log.value for table in TABLES.values()})),
    Row("where", "where"),
    Row("since", "since"),
    Row("until", "until"),
    Row("order", "order", choice({"newest": "newest", "oldest": "oldest"})),
    Row("limit", "limit"),
    Row("columns", "columns"),
)
_BODY = arm_schema.describe(_QUESTION, LogQuestion)
_COLUMN = plain("LogColumn", name=TEXT, type={"type": "string", "enum": list(ColumnType)})
_VALUE = {"type": ["string", "number", "null"]}
_ANSWER = plain(
    "LogRows",
    name=TEXT,
    columns={"type": "array", "items": _COLUMN},
    rows={"type": "array", "items": {"type": "array", "items": _VALUE}},
    isCut={"type": "boolean"},
    lost=COUNT,
    keptSince=or_null(TIME),
)
_TABLE = plain(
    "LogTable",
    name=TEXT,
    azureName=TEXT,
    description=TEXT,
    columns={
        "type": "array",
        "items": plain(name=TEXT, type=TEXT, description=TEXT, isOwn={"type": "boolean"}),
    },
)


class Logs:
    """Handlers of the log tables."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def tables(self, call: Call) -> web.StreamResponse:
        return answer(page([_describe(table) for table in TABLES.values()]))

    async def query(self, call: Call) -> web.StreamResponse:
        """Rows of the workspace; of one endpoint when the path names it, whether it is still there
        or not: logs outlive what they tell of."""
        problems = Problems()
        values = _QUESTION.load(await call.json(), problems)
        asked = checked(LogQuestion, values, _QUESTION, problems)
        now = self._backend.clock.now()
        query = QueryLogs(
            workspace=call.workspace,
            subscription=call.params["subscription"],
            workspace_id=call.context.workspace_id,
            table=asked.table,
            endpoint=call.params.get("endpoint", ""),
            where=asked.where,
            since=_time("since", asked.since, now),
            until=_time("until", asked.until, now),
            order=asked.order,
            limit=asked.limit,
            columns=asked.columns,
        )
        reply = await self._backend.ask(query, LogRowsReply, _QUESTION)
        return answer(_rows(reply))

    def routes(self) -> tuple[Route[Handle], ...]:
        asked: dict[str, Any] = {"body": _BODY, "reply": _ANSWER, "action": Action.READ}
        return (
            Route(
                "GET",
                f"{WORKSPACE}/logs/tables",
                self.tables,
                "List the log tables and their columns",
                reply=list_of(_TABLE),
            ),
            Route("POST", f"{WORKSPACE}/logs/query", self.query, "Ask for rows of a log", **asked),
            Route(
                "POST",
                f"{WORKSPACE}/onlineEndpoints/{{endpoint}}/logs/query",
                self.query,
                "Ask for rows of a log about one endpoint",
                **asked,
            ),
        )


def _time(field: str, text: str, now: float) -> float | None:
    """An age or a time; None when it is not given."""
    if not text:
        return None
    try:
        return core.read_since(text, now)
    except HeadgateError:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{field} is an age such as 10m or 2h, or a time such as 2030-01-31T12:00:00Z",
            target=f"/{field}",
        ) from None


def _rows(reply: LogRowsReply) -> Json:
    times = [column.type == ColumnType.DATETIME for column in reply.columns]
    return {
        "name": reply.table,
        "columns": [{"name": column.name, "type": column.type} for column in reply.columns],
        "rows": [
            [_written(row[at]) if times[at] else row[at] for at in range(len(times))]
            for row in reply.rows
        ],
        "isCut": reply.is_cut,
        "lost": reply.lost,
        "keptSince": None if reply.kept_since is None else _written(reply.kept_since),
    }


def _written(at: Any) -> str:
    found = datetime.fromtimestamp(float(at), UTC).isoformat(timespec="milliseconds")
    return found.replace("+00:00", "Z")


def _describe(table: LogTable) -> Json:
    return {
        "name": table.log.value,
        "azureName": table.name,
        "description": table.description,
        "columns": [
            {
                "name": column.name,
                "type": column.type.value,
                "description": column.description,
                "isOwn": column.is_own,
            }
            for column in table.columns
        ],
    }
