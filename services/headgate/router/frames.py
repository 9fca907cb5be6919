"""What goes to instances, encoded: a request's own part once, what differs by instance per try."""

from __future__ import annotations

import json

from headgate.router.spool import RequestBody, Spool
from headgate_contracts import limits
from headgate_contracts.scoring import FRAME_HEAD

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_WINDOW = f'"w":{limits.ANSWER_WINDOW_BYTES},'  # an answer may come in parts


def encode_pairs(pairs: list[tuple[str, str]]) -> str:
    """Headers as the inside of a JSON array."""
    return _to_json(pairs)[1:-1]


def encode_request(method: str, path: str, query: str, pairs: str) -> bytes:
    """The request meta without ``id`` and ``dl``; ``pairs`` as of :func:`encode_pairs`."""
    shown = f'"{path}"' if path == "/score" else _to_json(path)
    asked = _to_json(query) if query else '""'
    return f'{_WINDOW}"m":"{method}","p":{shown},"q":{asked},"h":[{pairs}]}}'.encode()


def traced(meta: bytes) -> bytes:
    """The meta of a request of which its instance shall tell how long it had it."""
    return b'"tr":1,' + meta


def encode(number: int, deadline_ms: int, meta: bytes, body: RequestBody) -> tuple[bytes, bytes]:
    """A frame up to its body, and the body; without it where that follows in parts.

    ``meta`` is as of :func:`encode_request`.
    """
    if isinstance(body, Spool):
        meta, body = b'"size":%d,%b' % (len(body), meta), b""
    whole = b'{"id":%d,"dl":%d,%b' % (number, deadline_ms, meta)
    return FRAME_HEAD.pack(len(whole), len(body)) + whole, body
