"""What many requests have in common, read once.

A router writes first what belongs to one request, its number, deadline and ids, and then what is
the same for all of a kind, from ``"w"`` on. That tail is known again by its bytes.
"""

from __future__ import annotations

from typing import Any, Optional

from headgate_worker import frames

KINDS_MAX = 64  # then all are forgotten
TAIL_BYTES_MAX = 2048
_TAIL = b',"w":'
_OF_ONE = frozenset(("id", "dl", "ttl", "tr", "size", "rid", "cid"))
_OF_KIND = frozenset(("w", "m", "p", "q", "h"))


class Kind:
    """The HTTP request but for its body and ids. Shared, so nobody changes anything in it."""

    __slots__ = ("headers", "index", "is_json", "method", "path", "query", "trace_id", "window")

    def __init__(self, meta: dict[str, Any]) -> None:
        # How far an answer in parts may go at first, in bytes; 0: it has to come as a whole.
        self.window = int(meta.get("w") or 0)
        self.method = str(meta.get("m") or "POST").upper()
        self.path = str(meta.get("p") or "/score")
        self.query = str(meta.get("q") or "")
        self.headers: list[tuple[str, str]] = [
            (str(name), str(value)) for name, value in meta.get("h") or ()
        ]
        self.index: dict[str, str] = {name.lower(): value for name, value in self.headers}
        media = self.index.get("content-type", "").partition(";")[0].strip().lower()
        self.is_json = media == "application/json" or (
            media.startswith("application/") and media.endswith("+json")
        )
        self.trace_id = self.index.get("traceid", "")


class Kinds:
    """Those that were seen lately."""

    def __init__(self) -> None:
        self._by_tail: dict[bytes, Kind] = {}

    def __len__(self) -> int:
        return len(self._by_tail)

    def read(self, meta: bytes) -> tuple[dict[str, Any], Optional[Kind]]:
        """A meta: all of it, or what is said before the tail together with the tail's kind.

        Any object may be cut so. The bytes at which it is cut cannot be inside of a string, and if
        they are nested then what is before them is no object. Raises FrameError.
        """
        cut = meta.find(_TAIL)
        if cut > 0:
            try:
                head = frames.parsed(meta[:cut] + b"}")
                if _OF_KIND.isdisjoint(head):
                    kind = self._of(meta[cut + 1 :])
                    if kind is not None:
                        return head, kind
            except frames.FrameError:
                pass  # nested, or broken: the whole of it tells
        return frames.parsed(meta), None

    def _of(self, tail: bytes) -> Optional[Kind]:
        """The kind with this tail; None if it says something of one request. Raises FrameError."""
        found = self._by_tail.get(tail)
        if found is None and len(tail) <= TAIL_BYTES_MAX:
            said = frames.parsed(b"{" + tail)
            if _OF_ONE.isdisjoint(said):
                found = Kind(said)
                if len(self._by_tail) >= KINDS_MAX:
                    self._by_tail.clear()
                self._by_tail[tail] = found
        return found
