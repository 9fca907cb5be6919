"""Tables that say how contract values are written in ARM's JSON, read in both directions.

A :class:`Form` translates one value, a :class:`Shape` one object. Loading collects every problem
with its JSON pointer instead of stopping at the first.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from headgate.azure import arm_ids
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, ErrorDetail, HeadgateError

M = TypeVar("M", bound=BaseModel)
Json = dict[str, Any]

_SHOWN_CHARS = 80
_DETAILS_MAX = 20


@dataclass(frozen=True, slots=True)
class Form:
    """One value: contract -> JSON and back. ``load`` raises ValueError that says what is wrong."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    schema: Json | None = None


def _same(value: Any) -> Any:
    return value


PLAIN = Form(_same, _same)  # types and limits are checked by the contract itself


def choice(to_arm: Mapping[str, str]) -> Form:
    """An enumeration, contract's word -> ARM's; read without regard to case, ``_`` and ``-``."""
    from_arm = {_folded(arm): word for word, arm in to_arm.items()}
    from_arm |= {_folded(word): word for word in to_arm}

    def load(value: Any) -> str:
        if not isinstance(value, str) or _folded(value) not in from_arm:
            raise ValueError(f"{_shown(value)} is not one of {', '.join(to_arm.values())}")
        return from_arm[_folded(value)]

    return Form(to_arm.__getitem__, load, {"type": "string", "enum": list(to_arm.values())})


def constant(word: str, *, required: bool = True) -> Form:
    """A field that always says the same; another word is refused when ``required``.

    It carries nothing for the contract, so its row has an empty contract name.
    """

    def load(value: Any) -> Json:
        if required and (not isinstance(value, str) or _folded(value) != _folded(word)):
            raise ValueError(f"{_shown(value)} is not supported here; only {word} is")
        return {}

    return Form(lambda _: word, load, {"type": "string", "const": word})


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


_DURATION = re.compile(
    r"P(?:(\d{1,9})D)?(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.(\d{1,9}))?S)?)?\Z",
    re.ASCII,
)
_NS_PER_S = 1_000_000_000


def write_duration(ns: int) -> str:
    """Nanoseconds as an ISO 8601 duration: ``PT5S``, ``PT0.5S``, ``PT1M30S``."""
    seconds, fraction = divmod(ns, _NS_PER_S)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    tail = f".{fraction:09}".rstrip("0") if fraction else ""
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if seconds or tail or not (hours or minutes):
        parts.append(f"{seconds}{tail}S")
    return "PT" + "".join(parts)


def read_duration(text: str) -> int:
    """The nanoseconds of an ISO 8601 duration of days, hours, minutes and seconds."""
    match = _DURATION.match(text)
    if match is None or text in ("P", "PT"):
        raise ValueError(f"{_shown(text)} is not an ISO 8601 duration such as PT5S or PT0.5S")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return whole * _NS_PER_S + int((match[5] or "").ljust(9, "0"))


def duration(unit: str, unit_ns: int) -> Form:
    """A length of time that the contract counts in whole units."""

    def load(value: Any) -> int:
        if not isinstance(value, str):
            raise ValueError(f"{_shown(value)} is not an ISO 8601 duration such as PT5S")
        units, rest = divmod(read_duration(value), unit_ns)
        if rest:
            raise ValueError(f"{_shown(value)} is not a whole number of {unit}")
        return units

    return Form(
        lambda units: write_duration(units * unit_ns),
        load,
        {"type": "string", "format": "duration"},
    )


SECONDS = duration("seconds", _NS_PER_S)
MILLISECONDS = duration("milliseconds", _NS_PER_S // 1000)


def pointer(at: str, part: object) -> str:
    """``at`` with one more step, escaped as RFC 6901 says."""
    step = str(part)[:_SHOWN_CHARS].replace("~", "~0").replace("/", "~1")
    return f"{at}/{step}"


@dataclass(slots=True)
class Problems:
    """What is wrong with a body."""

    found: list[ErrorDetail] = field(default_factory=list)

    def add(self, at: str, text: str, code: ErrorCode = ErrorCode.BAD_ARGUMENT) -> None:
        self.found.append(ErrorDetail(code=code, message=text, target=at))

    def raise_any(self) -> None:
        if not self.found:
            return
        first, more = self.found[0], len(self.found) - 1
        text = f"{first.target or 'the body'}: {first.message}"
        raise HeadgateError(
            ErrorCode(first.code),
            f"{text} (and {more} more)" if more else text,
            target=first.target,
            details=tuple(self.found[:_DETAILS_MAX]),
        )


@dataclass(frozen=True, slots=True)
class Field:
    """One row: ARM's name, the contract's name, the form.

    An empty contract name spreads the fields of an inner object into the contract's outer one.
    """

    wire: str
    name: str
    form: Form | Shape = PLAIN


class Shape:
    """One object: its fields, and the fields that are read-only or without meaning here.

    Clients send back what they were given, so ``ignored`` fields are accepted and dropped; a
    field that is in neither list is refused, so that nothing is set by accident.
    """

    def __init__(self, *fields: Field, ignored: Sequence[str] = ()) -> None:
        self.fields = {row.wire: row for row in fields}
        self.ignored = frozenset(ignored)

    def dump(self, values: Mapping[str, Any]) -> Json:
        """The JSON object for contract values; what is absent or None stays absent."""
        body: Json = {}
        for row in self.fields.values():
            value = values if row.name == "" else values.get(row.name)
            if value is not None:
                body[row.wire] = row.form.dump(value)
        return body

    def load(self, body: Any, problems: Problems, at: str = "") -> Json:
        """The contract values of a JSON object. A null counts as absent."""
        if not isinstance(body, Mapping):
            problems.add(at, "an object is expected")  # unquoted: it may stand for secrets
            return {}
        values: Json = {}
        for wire, value in body.items():
            row = self.fields.get(wire)
            here = pointer(at, wire)
            if row is None:
                if wire not in self.ignored:
                    problems.add(here, self._describe_unknown(wire))
            elif value is not None:
                loaded = self._load_field(row, value, problems, here)
                values |= loaded if row.name == "" else {row.name: loaded}
        return values

    @staticmethod
    def _load_field(row: Field, value: Any, problems: Problems, here: str) -> Any:
        if isinstance(row.form, Shape):
            return row.form.load(value, problems, here)
        try:
            return row.form.load(value)
        except ValueError as error:
            problems.add(here, str(error))
            return {} if row.name == "" else None

    def _describe_unknown(self, wire: str) -> str:
        near = difflib.get_close_matches(wire[:_SHOWN_CHARS], self.fields, n=1)
        return (
            f"there is no such field; did you mean {near[0]!r}?"
            if near
            else (f"there is no such field (known: {', '.join(self.fields)})")
        )

    def locate(self, path: Sequence[object], at: str = "") -> str | None:
        """The JSON pointer of a contract field given by its path of names; None when unknown."""
        for row in self.fields.values():
            here = pointer(at, row.wire)
            if row.name == "" and isinstance(row.form, Shape):
                if found := row.form.locate(path, here):
                    return found
            elif path and row.name == path[0]:
                rest = path[1:]
                inner = row.form.locate(rest, here) if isinstance(row.form, Shape) and rest else ""
                if inner:
                    return inner
                for part in rest:
                    here = pointer(here, part)
                return here
        return None


class Each(Shape):
    """An object whose keys are names that users choose, each with a value of one shape."""

    def __init__(self, inner: Shape) -> None:
        super().__init__()
        self.inner = inner

    def dump(self, values: Mapping[str, Any]) -> Json:
        return {name: self.inner.dump(value) for name, value in values.items()}

    def load(self, body: Any, problems: Problems, at: str = "") -> Json:
        if not isinstance(body, Mapping):
            problems.add(at, "an object is expected")
            return {}
        return {
            name: self.inner.load(value, problems, pointer(at, name))
            for name, value in body.items()
            if value is not None
        }

    def locate(self, path: Sequence[object], at: str = "") -> str | None:
        if not path:
            return None
        here = pointer(at, path[0])
        return self.inner.locate(path[1:], here) or here


class Several(Shape):
    """A list of objects of one shape."""

    def __init__(self, inner: Shape) -> None:
        super().__init__()
        self.inner = inner

    def dump(self, values: Any) -> Any:
        return [self.inner.dump(value) for value in values]

    def load(self, body: Any, problems: Problems, at: str = "") -> Any:
        if not isinstance(body, list):
            problems.add(at, "a list is expected")
            return []
        return [
            self.inner.load(value, problems, pointer(at, number))
            for number, value in enumerate(body)
        ]

    def locate(self, path: Sequence[object], at: str = "") -> str | None:
        if not path:
            return None
        here = pointer(at, path[0])
        return self.inner.locate(path[1:], here) or here


def reference_to(kind: str) -> Form:
    """A reference to an asset of this kind, as a resource id or in short."""

    def load(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("a reference such as azureml:<name>:<version> is expected")
        return arm_ids.reference(kind, value)

    return Form(lambda text: text, load, {"type": "string"})


def checked(model: type[M], values: Json, shape: Shape, problems: Problems) -> M:
    """The contract value, or HeadgateError that names every field at fault by its pointer."""
    problems.raise_any()
    try:
        # As JSON, because strict reading of JSON knows enumerations and tuples.
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            path = [part for part in item["loc"] if part != "[key]"]
            problems.add(*_describe(item["type"], item["msg"], path, shape))
    problems.raise_any()
    raise AssertionError("a validation error without any item")


def _describe(
    kind: str, text: str, path: Sequence[object], shape: Shape
) -> tuple[str, str, ErrorCode]:
    name = str(path[0]) if path else ""
    if len(path) == 1 and name in ("name", "endpoint_name"):
        return name, f"not a valid name; a name has {limits.NAME_RULE}", ErrorCode.INVALID_NAME
    if kind == "missing":
        text = "this field is required"
    elif kind.startswith("string_") and name in ("endpoint", "deployment"):
        text = f"not a valid name; a name has {limits.NAME_RULE}"
    return (
        shape.locate(path) or "/".join(map(str, path)),
        text.removeprefix("Value error, ").replace("Input should", "must", 1),
        ErrorCode.BAD_ARGUMENT,
    )


def _shown(value: Any) -> str:
    """A piece of a value for an error text; long ones are cut."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
