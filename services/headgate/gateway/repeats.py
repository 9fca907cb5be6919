"""Requests that come again with the same key: which run, which get the answer of the first.

Pure. The rules are those of the IETF draft of the ``Idempotency-Key`` header; Azure's clients say
the same with ``Repeatability-Request-ID``. Only an answer that says that something was done is
kept: a refusal has changed nothing, so the same request may simply be sent again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum

from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError

KEY_HEADER = "Idempotency-Key"
AZURE_HEADER = "Repeatability-Request-ID"
KEY_PATTERN = rf"[!#-\[\]-~]{{1,{limits.REPEAT_KEY_CHARS_MAX}}}"
KEPT_HEADERS = ("Content-Type", "ETag", "Location", "Azure-AsyncOperation", "Retry-After")

_KEY = re.compile(KEY_PATTERN + r"\Z")


class Repeats(StrEnum):
    """What a route does with the key of a request."""

    IGNORED = "ignored"
    """Doing it twice is doing it once."""
    ACCEPTED = "accepted"
    REQUIRED = "required"


class Record(Value):
    """What is known of the first request with a key. ``status`` 0: it is being worked on."""

    fingerprint: str
    begun_at: float
    status: int = 0
    headers: dict[str, str] = {}
    body: str = ""


def read_key(headers: Mapping[str, str], rule: Repeats) -> str | None:
    """The key of a request, or HeadgateError when it is missing where needed, or malformed."""
    if rule is Repeats.IGNORED:
        return None
    given = {
        name: _unquoted(headers[name]) for name in (KEY_HEADER, AZURE_HEADER) if name in headers
    }
    if len(set(given.values())) > 1:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{KEY_HEADER} and {AZURE_HEADER} say different things; send one of them",
            target=KEY_HEADER,
        )
    if not given:
        if rule is Repeats.ACCEPTED:
            return None
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"this needs the header {KEY_HEADER} with a new random value for every new request, "
            "so that a request that is sent again makes nothing twice",
            target=KEY_HEADER,
        )
    name, key = next(iter(given.items()))
    if not _KEY.match(key):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{name} has 1 to {limits.REPEAT_KEY_CHARS_MAX} visible ASCII characters, such as "
            "those of a UUID",
            target=name,
        )
    return key


def _unquoted(text: str) -> str:
    """The draft writes the key as a quoted string; many clients leave the quotes out."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def place(principal: str, verb: str, path: str, key: str) -> str:
    """Where the record of a key lies: a name that tells nothing, and is each caller's own."""
    return _digest(principal, verb, path, key)


def fingerprint(query: str, body: bytes) -> str:
    """What must be the same in a repeated request besides its key."""
    return _digest(query, hashlib.sha256(body).hexdigest())


def _digest(*parts: str) -> str:
    # The lengths make sure that no two different lists look the same.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def decide(record: Record | None, fingerprint: str, now: float) -> Record | None:
    """The record whose answer is given again, or None to go ahead.

    Raises HeadgateError when the key belongs to another request, or to one that still runs.
    """
    if record is None:
        return None
    if record.fingerprint != fingerprint:
        raise reused("was used with another body or query before")
    if record.status:
        return record
    if now - record.begun_at < limits.REPEAT_RUNNING_S_MAX:
        raise still_running()
    return None


def still_running() -> HeadgateError:
    """The first request with the key has not been answered yet."""
    return HeadgateError(
        ErrorCode.RESOURCE_CONFLICT,
        f"the first request with this {KEY_HEADER} is still being worked on; try again soon",
        target=KEY_HEADER,
        retry_after_s=1,
    )


def reused(how: str) -> HeadgateError:
    """The key stands for something else."""
    return HeadgateError(
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        f"this {KEY_HEADER} {how}; take a new one for a new request",
        target=KEY_HEADER,
    )
