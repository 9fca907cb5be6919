"""What goes to instances, encoded: a request's own part once, what differs by instance per try."""

from __future__ import annotations

import json

from headgate_contracts.scoring import FRAME_HEAD

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode_pairs(pairs: list[tuple[str, str]]) -> str:
    """Headers as the inside of a JSON array."""
    return _to_json(pairs)[1:-1]


def encode_request(method: str, path: str, query: str, pairs: str) -> bytes:
    """The request meta without ``id`` and ``dl``; ``pairs`` as of :func:`encode_pairs`."""
    shown = f'"{path}"' if path == "/score" else _to_json(path)
    asked = _to_json(query) if query else '""'
    return f'"m":"{method}","p":{shown},"q":{asked},"h":[{pairs}]}}'.encode()


def encode_head(number: int, deadline_ms: int, meta: bytes, body_bytes: int) -> bytes:
    """A frame up to its body; ``meta`` as of :func:`encode_request`."""
    whole = b'{"id":%d,"dl":%d,%b' % (number, deadline_ms, meta)
    return FRAME_HEAD.pack(len(whole), body_bytes) + whole
