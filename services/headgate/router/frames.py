"""What goes to instances, encoded: a request's own part once, what differs by instance per try."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from headgate.router.spool import RequestBody, Spool
from headgate_contracts import limits
from headgate_contracts.scoring import FRAME_HEAD, FrameError

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
TRACED = '"tr":1,'  # its instance shall tell how long it had the request
_WINDOW = f'"w":{limits.ANSWER_WINDOW_BYTES},'  # an answer may come in parts


def encode_pairs(pairs: list[tuple[str, str]]) -> str:
    """Headers as the inside of a JSON array."""
    return _to_json(pairs)[1:-1]


def encode_request(method: str, path: str, query: str, pairs: str) -> str:
    """The end of a request meta, the same for all that ask for the same.

    ``pairs`` are as of :func:`encode_pairs`.
    """
    asked = "" if method == "POST" else f'"m":"{method}",'
    if path != "/score":
        asked += f'"p":{_to_json(path)},'
    if query:
        asked += f'"q":{_to_json(query)},'
    return f'{_WINDOW}{asked}"h":[{pairs}]}}'


def encode(number: int, deadline_ms: int, meta: str, body: RequestBody) -> tuple[bytes, bytes]:
    """A frame up to its body, and the body; without it where that follows in parts.

    ``meta`` is all but ``id`` and ``dl``, as of :attr:`Ids.told` and :func:`encode_request`.
    """
    if isinstance(body, Spool):
        meta, body = f'"size":{len(body)},{meta}', b""
    whole = f'{{"id":{number},"dl":{deadline_ms},{meta}'.encode()
    return FRAME_HEAD.pack(len(whole), len(body)) + whole, body


def next_frame(payload: bytes, at: int) -> tuple[dict[str, Any], bytes, int]:
    """The frame that begins there, and where the one after it does. Raises FrameError."""
    begin = at + FRAME_HEAD.size
    if begin > len(payload):
        raise FrameError("truncated frame head")
    sizes: tuple[int, int] = FRAME_HEAD.unpack_from(payload, at)
    middle = begin + sizes[0]
    end = middle + sizes[1]
    if end > len(payload):
        raise FrameError("truncated frame")
    try:
        meta = from_json(payload[begin:middle])
    except ValueError as error:
        raise FrameError(f"frame meta is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise FrameError("frame meta is not an object")
    return meta, payload[middle:end], end
