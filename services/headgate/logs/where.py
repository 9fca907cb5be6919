"""The filter language of log queries: a text becomes a tree that is checked against a table. Pure.

    ResponseCode >= 500 and DeploymentName == 'blue'
    Message contains 'time-out' or Level in ('ERROR', 'WARNING')
    not (TimeGenerated < ago(1h)) and ModelStatusCode != null

The words are those of Kusto's ``where``, of which this is a small part: comparisons, ``in``,
``contains``, ``startswith``, ``endswith`` (these ignore the case of ASCII letters) and their
negations with ``!``, joined by ``and``, ``or``, ``not`` and parentheses. Nothing is ever executed:
a tree holds columns of the table and plain values alone.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NoReturn

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.logs import Column, ColumnType, LogTable, Scalar

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "startswith", "endswith"]

_ORDERED = ("<", "<=", ">", ">=")
_PARTS: dict[str, Operator] = {
    "contains": "contains",
    "startswith": "startswith",
    "endswith": "endswith",
}
_SIGNS: dict[str, Operator] = {
    "==": "==",
    "!=": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<call>(?:ago|datetime)\s*\([^()]{0,64}\))
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?(?![\w.]))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>==|!=|<=|>=|<|>|\(|\)|,|!(?=[a-z]))
    )""",
    re.VERBOSE | re.ASCII,
)
_CALL = re.compile(r"(ago|datetime)\s*\(\s*(.*?)\s*\)\Z", re.ASCII | re.DOTALL)
_AGE = re.compile(r"(\d{1,9})([smhd])\Z", re.ASCII)
_AGE_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_INT64_MAX = 2**63 - 1
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column and what its value is compared with; None only with ``==`` and ``!=``."""

    column: Column
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Condition


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    parts: tuple[Condition, ...]


Condition = Comparison | Not | All | Any


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return repr(self.text[:_SHOWN_CHARS]) if self.text else "the end"


def parse(text: str, table: LogTable, now: float) -> Condition:
    """The tree of an expression; an empty one matches everything.

    Raises HeadgateError(BadArgument) that says where it is wrong and what could stand there.
    """
    if len(text) > limits.LOG_WHERE_CHARS_MAX:
        _refuse(f"is longer than {limits.LOG_WHERE_CHARS_MAX} characters")
    if not text.strip():
        return All(())
    return _Parser(_tokens(text), table, now).whole()


def column_of(table: LogTable, name: str) -> Column:
    """The column of that name, whatever its case; HeadgateError that names a near one else."""
    by_name = {column.name.lower(): column for column in table.columns}
    found = by_name.get(name.lower())
    if found is None:
        known = [column.name for column in table.columns]
        near = difflib.get_close_matches(name[:_SHOWN_CHARS], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{table.name} has no column {name[:_SHOWN_CHARS]!r}; {hint}",
            target="columns",
        )
    return found


def _refuse(problem: str) -> NoReturn:
    raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"the filter {problem}", target="where")


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            place = len(text) - len(rest) + 1
            if rest[0] in "'\"":
                _refuse(f"has a text at character {place} that does not end")
            hint = "such as ResponseCode >= 500 and DeploymentName == 'blue'"
            hint = "equal is ==" if rest[0] == "=" else f"write {hint}"
            _refuse(f"cannot be read at character {place}: {rest[:_SHOWN_CHARS]!r}; {hint}")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    return [*found, _Token("end", "", end + 1)]


class _Parser:
    """Recursive descent over the tokens; depth and number of terms are bounded."""

    def __init__(self, tokens: list[_Token], table: LogTable, now: float) -> None:
        self._tokens = tokens
        self._table = table
        self._now = now
        self._next = 0
        self._depth = 0
        self._terms = 0

    def whole(self) -> Condition:
        found = self._any()
        if self._token.kind != "end":
            self._expected("'and', 'or' or the end")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _takes(self, *texts: str) -> bool:
        """Whether the next token is one of these words or signs; it is taken then."""
        token = self._token
        is_it = token.kind in ("word", "sign") and token.text.lower() in texts
        self._next += is_it
        return is_it

    def _expected(self, what: str) -> NoReturn:
        _refuse(f"has {self._token} at character {self._token.at}, where {what} belongs")

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > limits.LOG_WHERE_DEPTH_MAX:
            _refuse(f"is nested deeper than {limits.LOG_WHERE_DEPTH_MAX}")
        if self._takes("not"):
            found: Condition = Not(self._one())
        elif self._takes("("):
            found = self._any()
            if not self._takes(")"):
                self._expected("')'")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Condition:
        self._terms += 1
        if self._terms > limits.LOG_WHERE_TERMS_MAX:
            _refuse(f"has more than {limits.LOG_WHERE_TERMS_MAX} comparisons")
        if self._token.kind != "word":
            self._expected("a column, 'not' or '('")
        column = self._column(self._take().text)
        negated = self._takes("!")
        token = self._token
        if self._takes("in"):
            found = Comparison(column, "in", self._list(column))
        elif (part := _PARTS.get(token.text.lower())) and self._takes(*_PARTS):
            if column.type is not ColumnType.STRING:
                _refuse(f"asks what {column.name} {token.text}, which is not a text")
            value = self._value(column)
            if value is None:
                _refuse(f"compares null with {token.text}; only == and != know it")
            found = Comparison(column, part, (value,))
        elif not negated and (sign := _SIGNS.get(token.text)) and self._takes(*_SIGNS):
            value = self._value(column)
            if value is None and token.text in _ORDERED:
                _refuse(f"compares null with {token.text}; only == and != know it")
            found = Comparison(column, sign, (value,))
        else:
            signs = "in, contains, startswith, endswith"
            self._expected(signs if negated else f"==, !=, <, <=, >, >=, {signs}")
        return Not(found) if negated else found

    def _column(self, name: str) -> Column:
        try:
            return column_of(self._table, name)
        except HeadgateError as error:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT, error.error.message, target="where"
            ) from None

    def _list(self, column: Column) -> tuple[Scalar, ...]:
        if not self._takes("("):
            self._expected("'('")
        values = [self._listed(column)]
        while self._takes(","):
            values.append(self._listed(column))
        if not self._takes(")"):
            self._expected("',' or ')'")
        return tuple(values)

    def _listed(self, column: Column) -> Scalar:
        self._terms += 1
        if self._terms > limits.LOG_WHERE_TERMS_MAX:
            _refuse(f"has more than {limits.LOG_WHERE_TERMS_MAX} comparisons")
        value = self._value(column)
        if value is None:
            _refuse("has null in a list; compare with == null")
        return value

    def _value(self, column: Column) -> Scalar:
        """A value of the column's type."""
        token = self._take()
        if token.kind == "word" and token.text.lower() == "null":
            return None
        if column.type is ColumnType.STRING and token.kind == "text":
            return _unquoted(token.text)
        if column.type is ColumnType.DATETIME and token.kind == "call":
            return self._called(token)
        if column.type is ColumnType.DATETIME and token.kind == "text":
            return _time(_unquoted(token.text))
        if column.type in (ColumnType.LONG, ColumnType.REAL) and token.kind == "number":
            return _number(token.text)
        wanted = {
            ColumnType.STRING: "a text in quotes",
            ColumnType.DATETIME: "ago(1h) or datetime(2030-01-31T12:00:00Z)",
        }.get(column.type, "a number")
        _refuse(f"has {token} at character {token.at}, where {wanted} belongs for {column.name}")

    def _called(self, token: _Token) -> float:
        match = _CALL.match(token.text)
        name, argument = (match[1], match[2]) if match else ("", "")
        if name == "datetime":
            return _time(argument.strip("'\""))
        age = _AGE.match(argument)
        if age is None:
            _refuse(f"has {token}; write an age such as ago(10m), with s, m, h or d")
        return self._now - int(age[1]) * _AGE_UNIT_S[age[2]]


def _unquoted(text: str) -> str:
    found = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text[1:-1])
    if "\0" in found:
        _refuse("has a text with a NUL character, which no row holds")
    return found


def _time(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        _refuse(
            f"has the time {text[:_SHOWN_CHARS]!r}; write one with its zone, such as "
            "2030-01-31T12:00:00Z"
        )
    return at.timestamp()


def _number(text: str) -> int | float:
    if text.lstrip("-").isdecimal():
        if len(text) > 20 or abs(int(text)) > _INT64_MAX:
            _refuse(f"has the number {text[:_SHOWN_CHARS]}, which does not fit 64 bits")
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        _refuse(f"has the number {text[:_SHOWN_CHARS]}, which is too large")
    return value
