"""Cursors: where the next page of a list begins, as a text that only this installation can make.

A cursor holds for one list of one workspace with the same filters and order. Elsewhere, or with a
single character changed, it is refused: it never tells where a list goes on that is not the
caller's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from headgate_contracts.errors import ErrorCode, HeadgateError

_SIGNATURE_BYTES = 16
# What may differ from page to page.
_FREE = frozenset({"$skip", "$top", "count", "api-version"})


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page begins: after so many items, or after the item that a service has named."""

    skip: int = 0
    after: str = ""


class Cursors:
    """Signs positions and reads them back. The key is derived from a secret, for this use only."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"headgate list cursors", hashlib.sha256)

    def sign(self, place: str, position: Position) -> str:
        payload = json.dumps([position.skip, position.after]).encode()
        return base64.urlsafe_b64encode(self._signature(place, payload) + payload).decode()

    def read(self, place: str, cursor: str) -> Position:
        """The position; HeadgateError when the cursor was not made here for this list."""
        try:
            raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise _unknown() from None
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(place, payload)):
            raise _unknown()
        skip, after = json.loads(payload)
        return Position(skip, after)

    def _signature(self, place: str, payload: bytes) -> bytes:
        message = hashlib.sha256(place.encode()).digest() + payload
        return hmac.digest(self._key, message, hashlib.sha256)[:_SIGNATURE_BYTES]


def place_of(path: str, query: Mapping[str, str]) -> str:
    """The list that a request reads: its address, and what it is filtered and ordered by."""
    fixed = sorted((name, text) for name, text in query.items() if name not in _FREE)
    return f"{path.lower()}?{urlencode(fixed)}"


def _unknown() -> HeadgateError:
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        "$skip is no cursor of this list; take it from the nextLink of the page before, with the "
        "same filters and order, or give a number",
        target="$skip",
    )
