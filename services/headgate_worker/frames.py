"""Scoring frames, read and written: the twin of the codec in the contracts package.

A frame is ``>II`` (meta bytes, body bytes), meta (a JSON object in UTF-8), body (opaque bytes);
a message is any number of frames.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Union

HEAD = struct.Struct(">II")
Buffer = Union[bytes, memoryview]

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decoder: Any = json.JSONDecoder()
# Value and end, or StopIteration where there is no value: what ``raw_decode`` is around.
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once
_quoted = json.encoder.encode_basestring  # a string in JSON, as ``_to_json`` has it


class FrameError(ValueError):
    """A scoring message that is not a sequence of whole frames."""


def encode(meta: dict[str, Any], body: Buffer) -> bytes:
    """One frame as bytes."""
    # A header that a script made of undecodable bytes must not cost the whole answer.
    head = _to_json(meta).encode("utf-8", "replace")
    return HEAD.pack(len(head), len(body)) + head + body


def encode_ordinary(number: int, in_flight: int, run_ms: float, body: bytes) -> bytes:
    """The frame of an answer like most: status and headers are those that a router adds to it."""
    head = b'{"id":%d,"n":%d,"s":200,"ms":%.3f}' % (number, in_flight, run_ms)
    return HEAD.pack(len(head), len(body)) + head + body


def encode_answer(
    number: Any,
    in_flight: int,
    status: int,
    pairs: list[tuple[str, str]],
    run_ms: float,
    body: Any,
    held_ms: float = 0.0,
) -> bytes:
    """The frame of a whole answer. ``run_ms`` below 0: run() was not called; ``held_ms`` 0: untold.

    All of it together takes less time than a general encoder.
    """
    took = f',"ms":{run_ms:.3f}' if run_ms >= 0 else ""
    if held_ms:
        took += f',"held":{held_ms:.3f}'
    told = number if type(number) is int else _to_json(number)
    headers = ",".join([f"[{_quoted(name)},{_quoted(value)}]" for name, value in pairs])
    meta = f'{{"id":{told},"n":{in_flight},"s":{status},"h":[{headers}]{took}}}'
    head = meta.encode("utf-8", "replace")
    return b"".join((HEAD.pack(len(head), len(body)), head, body))


def split(payload: Buffer) -> Iterator[tuple[bytes, bytes]]:
    """The frames of a message, in order: meta and body. Raises FrameError on anything torn."""
    offset, size = 0, len(payload)
    while offset < size:
        if size - offset < HEAD.size:
            raise FrameError("truncated frame head")
        meta_bytes, body_bytes = HEAD.unpack_from(payload, offset)
        start = offset + HEAD.size
        middle = start + meta_bytes
        offset = middle + body_bytes
        if offset > size:
            raise FrameError("truncated frame")
        yield bytes(payload[start:middle]), bytes(payload[middle:offset])


def parsed(meta: bytes) -> dict[str, Any]:
    """A meta as the object that it is. Raises FrameError when it is none."""
    try:
        text = meta.decode()
        found, used = _scan(text, 0)
        if used != len(text):
            raise ValueError("there is more after it")
    except ValueError as error:
        raise FrameError(f"frame meta is not JSON: {error}") from None
    except StopIteration:
        raise FrameError("frame meta is not JSON: there is no value") from None
    if not isinstance(found, dict):
        raise FrameError("frame meta is not an object")
    return found


def decode(payload: Buffer) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The frames of a message, in order. Raises FrameError on anything malformed."""
    for meta, body in split(payload):
        yield parsed(meta), body
