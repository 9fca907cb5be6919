"""Reads JSON bodies strictly: what two parsers could understand differently is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

INTEGER_BITS_MAX = 64
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def parse(raw: bytes) -> Any:
    """The value of a JSON text, or HeadgateError(InvalidJson) that says where it is broken."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise _invalid("it starts with a byte order mark; send UTF-8 without one")
    if _depth(text) > limits.JSON_DEPTH_MAX:
        raise _invalid(f"nested deeper than {limits.JSON_DEPTH_MAX}")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_read_object,
            parse_constant=_refuse_constant,
            parse_float=_read_float,
            parse_int=_read_integer,
        )
        # A lone surrogate passes the parser and breaks whoever encodes the text next.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeEncodeError:
        raise _invalid("a text holds half of a surrogate pair") from None
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _invalid(f"the key {key[:80]!r} stands twice in one object")
        found[key] = value
    return found


def _refuse_constant(word: str) -> Any:
    raise _invalid(f"{word} is not a JSON number")


def _read_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _invalid("a number is too large for a 64-bit float")
    return value


def _read_integer(digits: str) -> int:
    if len(digits) > 20 or int(digits).bit_length() >= INTEGER_BITS_MAX:
        raise _invalid(f"an integer does not fit {INTEGER_BITS_MAX} bits")
    return int(digits)


def _invalid(problem: str) -> HeadgateError:
    return HeadgateError(ErrorCode.INVALID_JSON, f"the body is not acceptable JSON: {problem}")
