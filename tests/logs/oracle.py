"""What a filter means, told a second time: evaluated row by row in Python."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from headgate.logs import where

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, wanted: value == wanted,
    "contains": lambda value, part: folded(part) in folded(value),
    "startswith": lambda value, part: folded(value).startswith(folded(part)),
    "endswith": lambda value, part: folded(value).endswith(folded(part)),
}


def folded(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


def holds(part: where.Condition, row: Mapping[str, Any]) -> bool:
    match part:
        case where.Not():
            return not holds(part.part, row)
        case where.All():
            return all(holds(each, row) for each in part.parts)
        case where.Any():
            return any(holds(each, row) for each in part.parts)
    value = row[part.column.field]
    if part.values == (None,):
        return (value is None) == (part.operator == "==")
    if value is None:
        return part.operator == "!="
    return any(_COMPARE[part.operator](value, each) for each in part.values)
