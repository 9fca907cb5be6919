"""The logs service's answers: rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.logs import sql, state
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.logs import TABLES, LogColumn, LogRowsReply, QueryLogs, Scalar

_VALUE_OVERHEAD_BYTES = 8


class Handlers:
    """Answers from the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {QueryLogs: self.query_logs}

    async def query_logs(self, query: QueryLogs) -> LogRowsReply:
        columns, wanted = sql.rows_of(query, self._clock.now())
        async with self._database.reading() as session:
            found = (await session.exec(wanted)).all()
            lost = await state.lost(session, query.workspace, query.table, query.since, query.until)
            kept_since = await state.kept_since(session, query.workspace, query.table)
        rows = _fitting(tuple(row)[1:] for row in found[: query.limit])
        return LogRowsReply(
            table=TABLES[query.table].name,
            columns=tuple(LogColumn(name=each.name, type=each.type.value) for each in columns),
            rows=rows,
            is_cut=len(rows) < len(found),
            lost=lost,
            kept_since=kept_since,
        )


def _fitting(rows: Iterable[Sequence[Any]]) -> tuple[tuple[Scalar, ...], ...]:
    """As many of the first rows as fit one answer."""
    kept: list[tuple[Scalar, ...]] = []
    size_bytes = 0
    for row in rows:
        size_bytes += sum(_size_bytes(value) for value in row)
        if size_bytes > limits.LOG_ANSWER_BYTES_MAX and kept:
            break
        kept.append(tuple(row))
    return tuple(kept)


def _size_bytes(value: Any) -> int:
    """About as long as it is in JSON, at worst."""
    if isinstance(value, str):
        return 2 * len(value.encode(errors="replace")) + _VALUE_OVERHEAD_BYTES
    return 2 * _VALUE_OVERHEAD_BYTES
