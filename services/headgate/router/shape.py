"""Header blocks that repeat: most clients send the same one over and over on a connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headgate.router.headers import Head

if TYPE_CHECKING:
    from headgate.router.exchange import Exchange

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n", re.IGNORECASE)


class Shape:
    """A header block that llhttp has accepted and the application admitted, and what it means.

    ``before`` and ``after`` are its bytes around the digits of Content-Length. The same bytes mean
    the same again, so a block that repeats needs no parser; one that does not is parsed anew.
    """

    __slots__ = ("_body_bytes", "_whole", "after", "before", "head", "method", "place", "url")

    def __init__(
        self, before: bytes, after: bytes, head: Head, method: str, url: bytes, place: Any
    ) -> None:
        self.before = before
        self.after = after
        self.head = head
        self.method = method
        self.url = url
        self.place = place
        self._whole = b""  # the block as it came the last time, and what its body had
        self._body_bytes = 0

    @staticmethod
    def of(exchange: Exchange, data: bytes) -> Shape | None:
        """What is to be learned from ``data``, if it is one plain request and nothing else."""
        head = exchange.head
        block_bytes = data.find(b"\r\n\r\n") + 4
        found = _CONTENT_LENGTH.findall(data, 0, block_bytes)
        plain = (
            len(found) == 1
            and head.content_length.encode() == found[0]
            and block_bytes + int(found[0]) == len(data)
            and not head.expect
            and exchange.keep_alive
            and not exchange.version_1_0
        )
        if not plain:
            return None
        match = _CONTENT_LENGTH.search(data)
        assert match is not None
        head.is_known = True
        start, end = match.span(1)
        before, after = data[:start], data[end:block_bytes]
        return Shape(before, after, head, exchange.method, exchange.url, exchange.place)

    def body_in(self, data: bytes) -> bytes | None:
        """The body, if ``data`` is one whole request of this shape and nothing else."""
        if not (self._whole and data.startswith(self._whole)) and not self._learn(data):
            return None
        at = len(self._whole)
        return data[at:] if at + self._body_bytes == len(data) else None

    def _learn(self, data: bytes) -> bool:
        """Whether ``data`` begins with a block of this shape, with whatever length of its body."""
        start = len(self.before)
        end = data.find(b"\r", start, start + 10)
        digits = data[start:end] if end >= 0 else b""
        known = data.startswith(self.before) and digits.isdigit()
        if not known or not data.startswith(self.after, end):
            return False
        self._whole = data[: end + len(self.after)]
        self._body_bytes = int(digits)
        return True
