"""Questions about a log table as SQL. Values are always parameters, columns always the table's."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Float, and_, false, func, literal, not_, or_, true
from sqlmodel import col, select

from headgate.logs import core, where
from headgate.logs.rows import ROWS
from headgate_contracts.logs import TABLES, Column, ColumnType, QueryLogs, Scalar

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rows_of(query: QueryLogs, now: float) -> tuple[list[Column], Any]:
    """The columns of the answer, and what selects one row more than is wanted.

    Raises HeadgateError(BadArgument) for a filter or a column that the table does not have.
    """
    table, row = TABLES[query.table], ROWS[query.table]
    columns = [where.column_of(table, name) for name in query.columns or table.shown]
    found: Any = select(row.id, *(_column(column, query) for column in columns))
    found = found.where(row.workspace == query.workspace)
    if query.endpoint:
        found = found.where(row.endpoint == query.endpoint)
    if query.since is not None:
        found = found.where(row.at >= query.since)
    if query.until is not None:
        found = found.where(row.at < query.until)
    found = found.where(_condition(where.parse(query.where, table, now), query))
    order = [col(row.at), col(row.id)]
    newest_first = query.order == "newest"
    found = found.order_by(*(each.desc() if newest_first else each.asc() for each in order))
    return columns, found.limit(query.limit + 1)


def _column(column: Column, query: QueryLogs) -> Any:
    if not column.field:
        return literal(core.constant(column, query)).label(column.name)
    return getattr(ROWS[query.table], column.field)


def _condition(part: where.Condition, query: QueryLogs) -> ColumnElement[bool]:
    match part:
        case where.Comparison():
            return _comparison(part, query)
        case where.Not():
            return not_(_condition(part.part, query))
        case where.All():
            return and_(true(), *(_condition(each, query) for each in part.parts))
        case where.Any():
            return or_(false(), *(_condition(each, query) for each in part.parts))


def _comparison(part: where.Comparison, query: QueryLogs) -> ColumnElement[bool]:
    """Without SQL's third truth value: null is equal to null alone, and in no order."""
    column = _column(part.column, query)
    value = part.values[0]
    if value is None:
        is_null: ColumnElement[bool] = column.is_(None)
        return is_null if part.operator == "==" else not_(is_null)
    if part.operator == "in":
        found: Any = or_(*(column == _bound(each, part.column) for each in part.values))
    elif part.operator in _COMPARE:
        found = _COMPARE[part.operator](column, _bound(value, part.column))
    else:
        found = getattr(column, f"i{part.operator}")(value, autoescape=True)
    return func.coalesce(found, literal(part.operator == "!="))


def _bound(value: Scalar, column: Column) -> Any:
    """The value as a parameter of its own type: a count may be compared with a fraction."""
    if column.type is ColumnType.STRING:
        return value
    if isinstance(value, int) and column.type is ColumnType.LONG:
        return value
    return literal(float(value or 0), Float)
