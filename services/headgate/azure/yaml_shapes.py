"""Turns a YAML tree into a typed value: the type of the field decides what a scalar means.

The types are the pydantic models of the contracts. A text field keeps ``no``, ``010``, ``1:30``
and dates as they were written; a number field takes nothing but a number. Every problem of the
tree is collected with its place; values never appear in messages about environment variables.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headgate.azure.yaml_nodes import Mapping, Node, Place, Scalar, Sequence

M = TypeVar("M", bound=BaseModel)

_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_WHOLE_NUMBER_CHARS_MAX = 18
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_SHOWN_CHARS_MAX = 60

_UNUSABLE: Final = object()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file: where, in which field, and what to do about it."""

    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.field + ': ' if self.field else ''}{self.message}"


@dataclass(slots=True)
class Findings:
    """What reading a file turned up so far."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def refuse(self, place: Place, path: str, message: str) -> None:
        problem = Problem(place, path, message)
        if problem not in self.problems:  # two looks may find the same
            self.problems.append(problem)

    def warn(self, place: Place, path: str, message: str) -> None:
        self.warnings.append(Problem(place, path, message))


def shaped(node: Node, model: type[M], path: str, findings: Findings) -> M | None:
    """``node`` as an instance of ``model``, or None when ``findings`` has got its problems."""
    value = _model(node, model, path, findings)
    return value if isinstance(value, model) else None


def nearest(word: str, words: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when one of ``words`` is close to ``word``, else nothing."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def shown(text: str) -> str:
    """A value as it may appear in a message: quoted, and not endless."""
    return repr(text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "...")


def plain(node: Node) -> Any:
    """The tree as dictionaries, lists and texts, nothing guessed; None where nothing is given."""
    if isinstance(node, Scalar):
        return None if node.is_null else node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.items.items()}


def _named(node: Node) -> str:
    if isinstance(node, Scalar):
        return "empty" if node.is_null else "a single value"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _convert(node: Node, kind: Any, path: str, findings: Findings) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _convert(node, get_args(kind)[0], path, findings)
    if origin in (Union, types.UnionType):
        return _convert(node, _alternative(node, get_args(kind)), path, findings)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _model(node, kind, path, findings)
    if origin is dict:
        return _dict(node, get_args(kind)[1], path, findings)
    if origin in (tuple, list):
        return _list(node, get_args(kind)[0], path, findings)
    if kind is Any:
        return plain(node)
    if not isinstance(node, Scalar):
        findings.refuse(node.place, path, f"must be a single value, not {_named(node)}")
        return _UNUSABLE
    return _scalar(node, kind, path, findings)


def _alternative(node: Node, kinds: tuple[Any, ...]) -> Any:
    """The member of a union that fits how the node is written."""
    candidates = [kind for kind in kinds if kind is not type(None)]
    for kind in candidates:
        is_scalar_kind = not (
            get_origin(kind) in (dict, tuple, list)
            or (isinstance(kind, type) and issubclass(kind, BaseModel))
        )
        if is_scalar_kind == isinstance(node, Scalar):
            return kind
    return candidates[0]


def _model(node: Node, model: type[BaseModel], path: str, findings: Findings) -> Any:
    if not isinstance(node, Mapping):
        findings.refuse(node.place, path, f"must be a mapping of fields, not {_named(node)}")
        return _UNUSABLE
    values: dict[str, Any] = {}
    bad: set[str] = set()
    for key, item in node.items.items():
        dotted = f"{path}.{key}" if path else key
        known = model.model_fields.get(key)
        if known is None:
            hint = nearest(key, model.model_fields)
            findings.refuse(node.key_places[key], dotted, f"unknown field{hint}")
            bad.add("")
        elif isinstance(item, Scalar) and item.is_null:
            continue
        else:
            value = _convert(item, known.annotation, dotted, findings)
            if value is _UNUSABLE:
                bad.add(key)
            else:
                values[key] = value
    try:
        built = model.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if str(next(iter(detail["loc"]), "")) not in bad:
                _report(detail, node, model, path, findings)
        return _UNUSABLE
    return _UNUSABLE if bad else built


def _report(
    detail: ErrorDetails, node: Mapping, model: type[BaseModel], path: str, findings: Findings
) -> None:
    """One pydantic error in our words, at the place of the value it is about."""
    place, where = node.place, node
    dotted = path
    for part in map(str, detail["loc"]):
        dotted = f"{dotted}.{part}" if dotted else part
        child = where.items.get(part) if isinstance(where, Mapping) else None
        if child is None:
            break
        place = child.place
        if not isinstance(child, Mapping):
            break
        where = child
    known = model.model_fields.get(str(next(iter(detail["loc"]), "")))
    findings.refuse(place, dotted, explained(detail, known.description if known else None))


def explained(detail: ErrorDetails, rule: str | None) -> str:
    """One pydantic error in our words. ``rule`` says what names are valid."""
    limit = detail.get("ctx", {})
    number, given = detail["input"], shown(str(detail["input"]))
    match detail["type"]:
        case "missing":
            return "is required"
        case "string_pattern_mismatch" | "string_too_short" | "string_too_long" if rule:
            return f"{given} is no valid name ({rule})"
        case "string_too_long":
            length = len(str(detail["input"]))
            return f"at most {limit['max_length']:,} characters are allowed, not {length:,}"
        case "string_too_short":
            return "must not be empty"
        case "string_pattern_mismatch":
            return f"{given} does not match the pattern {limit['pattern']}"
        case "greater_than_equal":
            return f"must be at least {limit['ge']:,}, not {number}"
        case "less_than_equal":
            return f"must be at most {limit['le']:,}, not {number}"
        case "value_error":
            return str(limit["error"])
    return detail["msg"]


def _dict(node: Node, kind: Any, path: str, findings: Findings) -> Any:
    if not isinstance(node, Mapping):
        findings.refuse(node.place, path, f"must be a mapping, not {_named(node)}")
        return _UNUSABLE
    values = {
        key: _convert(item, kind, f"{path}.{key}", findings) for key, item in node.items.items()
    }
    return _UNUSABLE if any(v is _UNUSABLE for v in values.values()) else values


def _list(node: Node, kind: Any, path: str, findings: Findings) -> Any:
    if not isinstance(node, Sequence):
        findings.refuse(node.place, path, f"must be a list, not {_named(node)}")
        return _UNUSABLE
    values = [_convert(item, kind, f"{path}[{i}]", findings) for i, item in enumerate(node.items)]
    return _UNUSABLE if any(value is _UNUSABLE for value in values) else tuple(values)


def _scalar(node: Scalar, kind: Any, path: str, findings: Findings) -> Any:
    text = node.text
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        expected = "true or false"
    elif kind is int:
        if _WHOLE_NUMBER.match(text) and len(text) <= _WHOLE_NUMBER_CHARS_MAX:
            return int(text)
        expected = "a whole number in decimal digits"
    elif kind is float:
        if _NUMBER.match(text):
            return float(text)
        expected = "a number"
    else:
        return _choice(node, kind, path, findings)
    findings.refuse(node.place, path, f"must be {expected}, not {shown(text)}")
    return _UNUSABLE


def _choice(node: Scalar, kind: Any, path: str, findings: Findings) -> Any:
    """One of a fixed set of words, whatever its case (Azure's clients write both forms)."""
    is_enum = isinstance(kind, type) and issubclass(kind, Enum)
    words = [str(item.value) for item in kind] if is_enum else [str(w) for w in get_args(kind)]
    for word in words:
        if word.replace("_", "").lower() == node.text.replace("_", "").lower():
            return word
    allowed = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    hint = nearest(node.text.lower(), words)
    findings.refuse(node.place, path, f"must be {allowed}, not {shown(node.text)}{hint}")
    return _UNUSABLE
