"""What the gateway decides: how addresses, headers and queries are read.

Pure: no clock, no input and output.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

from headgate.azure.arm_fields import Json
from headgate.gateway.access import nothing_here
from headgate_contracts import limits, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Resource

R = TypeVar("R", bound=Resource)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NUMBER = re.compile(r"\d{1,9}\Z", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"\Z', re.ASCII)


def split_path(raw: str) -> list[str]:
    """The decoded segments of a request target.

    Each segment is decoded once and by itself, so an encoded slash never makes a new segment, and
    nothing is normalised away: a path with tricks in it is refused instead.
    """
    path = raw.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        raise nothing_here()
    segments = []
    for part in path[1:].split("/") if path != "/" else []:
        try:
            segment = unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError:
            raise _bad_path("is not UTF-8") from None
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in segment):
            raise _bad_path("has a control character")
        if "/" in segment or "\\" in segment:
            raise _bad_path("has an encoded slash or a backslash")
        if segment in ("", ".", ".."):
            raise nothing_here()
        segments.append(segment)
    return segments


def _bad_path(problem: str) -> HeadgateError:
    return HeadgateError(ErrorCode.BAD_ARGUMENT, f"the path {problem}")


# --- conditions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """Under what condition a client wants its write to happen."""

    create_only: bool = False
    must_exist: bool = False
    if_revision: int | None = None


def read_condition(if_match: str | None, if_none_match: str | None) -> Condition:
    """``If-Match: "<revision>"`` or ``*``, ``If-None-Match: *``."""
    if if_none_match is not None and if_none_match.strip() != "*":
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, "If-None-Match knows only *", target="If-None-Match"
        )
    create_only = if_none_match is not None
    if if_match is None:
        return Condition(create_only=create_only)
    if create_only:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "If-Match and If-None-Match exclude each other",
            target="If-Match",
        )
    if if_match.strip() == "*":
        return Condition(must_exist=True)
    match = _ETAG.match(if_match.strip())
    if match is None:
        raise HeadgateError(
            ErrorCode.REVISION_MISMATCH,
            "If-Match is no ETag that was given out here; read the resource for its present one",
            target="If-Match",
        )
    return Condition(must_exist=True, if_revision=int(match[1]))


def etag(revision: int) -> str:
    return f'"{revision}"'


def whole_seconds(seconds: float) -> str:
    """A ``Retry-After`` value: never earlier than asked."""
    return str(max(0, math.ceil(seconds)))


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


# --- lists -------------------------------------------------------------------------------------


def read_number(query: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    """A whole number of the query string, within its limits."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.match(text) or not least <= int(text) <= most:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{name} is a whole number from {least} to {most}, not {text[:20]!r}",
            target=name,
        )
    return int(text)


def read_flag(query: Mapping[str, str], name: str) -> bool | None:
    """A yes or no of the query string; None when it is not there."""
    text = query.get(name)
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"{name} is true or false", target=name)
    return text.lower() == "true"


ORDERS: Mapping[str, tuple[Literal["name", "created_at", "updated_at"], bool]] = {
    "CreatedAtDesc": ("created_at", True),
    "CreatedAtAsc": ("created_at", False),
    "UpdatedAtDesc": ("updated_at", True),
    "UpdatedAtAsc": ("updated_at", False),
    "createdtime desc": ("created_at", True),
    "createdtime asc": ("created_at", False),
    "createdtime": ("created_at", False),
}


_FOLDED_ORDERS = {word.lower(): order for word, order in ORDERS.items()}


def is_newest_first(query: Mapping[str, str]) -> bool:
    """Whether that is the order which the query names."""
    text = query.get("orderBy") or query.get("$orderBy") or ""
    return _FOLDED_ORDERS.get(text.lower()) == ("created_at", True)


def has_order(query: Mapping[str, str]) -> bool:
    return "orderBy" in query or "$orderBy" in query


def ordered(resources: Sequence[R], query: Mapping[str, str]) -> list[R]:
    """In the order that ``orderBy`` or ``$orderBy`` names; as they come without one."""
    text = query.get("orderBy") or query.get("$orderBy")
    if text is None:
        return list(resources)
    if text.lower() not in _FOLDED_ORDERS:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "orderBy is CreatedAtDesc, CreatedAtAsc, UpdatedAtDesc, UpdatedAtAsc, "
            "'createdtime desc' or 'createdtime asc'",
            target="orderBy",
        )
    key, descending = _FOLDED_ORDERS[text.lower()]
    return sorted(resources, key=lambda item: float(getattr(item, key)), reverse=descending)


def has_labels(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether ``labels`` hold all of ``wanted``: ``a,b=c`` is "key a, and key b with value c"."""
    for part in filter(None, wanted.split(",")):
        key, separator, value = part.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted; ``after``: from where its service goes on."""

    skip: int
    size: int
    after: str = ""

    def cut(self, items: Sequence[R]) -> tuple[Sequence[R], int | None]:
        """The part, and the ``$skip`` of the next page if there is one."""
        end = self.skip + self.size
        return items[self.skip : end], end if end < len(items) else None


def read_page(query: Mapping[str, str]) -> Page:
    size = limits.PAGE_SIZE_DEFAULT
    for name in ("count", "$top"):
        size = read_number(query, name, size, least=1, most=limits.PAGE_SIZE_MAX)
    return Page(skip=read_number(query, "$skip", 0, least=0, most=limits.SKIP_MAX), size=size)


# --- events ------------------------------------------------------------------------------------

_AGE = re.compile(r"(\d{1,6})([smhd])\Z", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_since(text: str, now: float) -> float:
    """``10m`` (also s, h, d) ago or a time as RFC 3339 writes it, as Unix seconds."""
    if match := _AGE.match(text):
        return now - int(match[1]) * _UNIT_S[match[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "since is an age such as 10m or 2h, or a time such as 2030-01-31T12:00:00Z",
            target="since",
        )
    return at.timestamp()


def read_filter(text: str) -> str:
    """The subject that a filter means: a kind (``endpoint``), a subject, or the end of one.

    ``endpoint.digits.*`` and ``hg.v1.evt.endpoint.digits.*`` are the same.
    """
    prefix = subjects.EVENT_ALL.removesuffix(">")
    tokens = text.removeprefix(prefix).split(".")
    if len(tokens) == 1 and tokens[0] != ">":
        tokens.append(">")
    for position, token in enumerate(tokens):
        is_wildcard = token == "*" or (token == ">" and position == len(tokens) - 1)
        if not is_wildcard and not _TOKEN.match(token):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "filter is a kind such as endpoint, or a subject such as endpoint.digits.*; "
                "parts are letters, digits, '-', '_', a whole part may be *, the last one >",
                target="filter",
            )
    return prefix + ".".join(tokens)


def describe_event(sequence: int, subject: str, headers: Mapping[str, str], payload: bytes) -> Json:
    """A stored event as CloudEvents' JSON form, with its place in the stream."""
    event: Json = {
        "specversion": headers.get("ce-specversion", ""),
        "id": headers.get("ce-id", ""),
        "type": headers.get("ce-type", ""),
        "source": headers.get("ce-source", ""),
        "time": headers.get("ce-time", ""),
        "subject": subject,
        "sequence": sequence,
    }
    try:
        return {**event, "data": json.loads(payload)}
    except ValueError:
        return {**event, "data_base64": base64.b64encode(payload).decode()}
