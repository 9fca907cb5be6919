"""What a script's generator yields, as the parts of an answer.

Text and bytes are sent as they are, one chunk per part. Anything else becomes a line of JSON. A
client that accepts ``text/event-stream`` gets each part of a bare generator as a server-sent event.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, Optional

from headgate_worker import flask_bridge, web
from headgate_worker.request import Request
from headgate_worker.streams import ReaderGoneError, Stream, pieces

TEXT = "text/plain; charset=utf-8"
LINES = "application/x-ndjson"
EVENTS = "text/event-stream"

WHOLE = frozenset((dict, list, tuple, str, int, float, bool, type(None)))
_EVENT_FIELDS = ("data:", "event:", "id:", "retry:", ":")
_NO_PART = object()


class Generated:
    """Parts still to come, and the response that they are the body of, if the script made one."""

    def __init__(self, parts: Any, response: Any, close: Optional[Callable[[], None]]) -> None:
        self.response = response
        self.content_type = TEXT
        self._parts = parts
        self._close = close
        self._first: Optional[bytes] = None
        self._encode = encoded

    @property
    def size(self) -> Optional[int]:
        """The length of the body, where the script's response tells it."""
        said = self.response.headers.get("Content-Length", "") if self.response else ""
        return int(said) if said.isdecimal() else None

    def begin(self, request: Request) -> None:
        """Makes the first part, so that a failure before it is an ordinary one."""
        if hasattr(self._parts, "__anext__"):
            self._parts = _awaited(self._parts)
        self._choose(request, next(self._parts, _NO_PART))

    async def begin_async(self, request: Request) -> None:
        if not hasattr(self._parts, "__anext__"):
            self._parts = _asynchronous(self._parts)
        try:
            part = await self._parts.__anext__()
        except StopAsyncIteration:
            part = _NO_PART
        self._choose(request, part)

    def _choose(self, request: Request, first: Any) -> None:
        """The form of all parts, by the first of them."""
        if first is _NO_PART:
            return
        if self.response is None:
            if EVENTS in request.header("accept"):
                self.content_type, self._encode = EVENTS, event
            elif not isinstance(first, (str, bytes, bytearray, memoryview)):
                self.content_type = LINES
        self._first = self._encode(first)

    def pour(self, stream: Stream, guard: AbstractContextManager[None]) -> None:
        """Puts all parts into the stream, waiting while it is full; the script runs in ``guard``.

        Raises what the script raises, and ReaderGoneError.
        """
        room = threading.Event()
        stream.on_room(room.set)
        data = self._first
        while data is not None:
            for piece in pieces(data):
                room.clear()
                if not stream.put(piece):
                    room.wait()
            if stream.left:
                raise ReaderGoneError
            with guard:
                part = next(self._parts, _NO_PART)
            data = None if part is _NO_PART else self._encode(part)

    async def pour_async(self, stream: Stream, timeout_s: float) -> None:
        """The same on an event loop; each part may take ``timeout_s``."""
        loop = asyncio.get_running_loop()
        room = asyncio.Event()

        def has_room() -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(room.set)

        stream.on_room(has_room)
        data = self._first
        while data is not None:
            for piece in pieces(data):
                room.clear()
                if not stream.put(piece):
                    await room.wait()
            if stream.left:
                raise ReaderGoneError
            try:
                part = await asyncio.wait_for(self._parts.__anext__(), timeout_s)
            except StopAsyncIteration:
                return
            data = self._encode(part)

    def close(self) -> None:
        """The generator ends (GeneratorExit, if it has not ended), and so does the response."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()
        if self._close is not None:
            self._close()

    async def close_async(self) -> None:
        close = getattr(self._parts, "aclose", None)
        if close is not None:
            await close()
        if self._close is not None:
            self._close()


def of(result: Any) -> Optional[Generated]:
    """run()'s output as parts still to come; None when it is whole."""
    if type(result) in WHOLE:
        return None
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return Generated(result, None, None)
    if isinstance(result, web.Response):
        parts = result.parts
        return None if parts is None else Generated(parts, result, None)
    if flask_bridge.is_response(result) and result.is_streamed:
        return Generated(iter(result.response), result, result.close)
    return None


def encoded(part: Any) -> bytes:
    """A part as bytes."""
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, (bytes, bytearray, memoryview)):
        return bytes(part)
    return json.dumps(part).encode() + b"\n"


def event(part: Any) -> bytes:
    """A part as a server-sent event; one that is such an event already stays as it is."""
    if isinstance(part, (bytes, bytearray, memoryview)):
        part = bytes(part).decode("utf-8", "replace")
    text = part if isinstance(part, str) else json.dumps(part)
    if text.startswith(_EVENT_FIELDS) and text.endswith(("\n\n", "\r\n\r\n")):
        return text.encode()
    lines = text.splitlines() or [""]
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode()


def _awaited(parts: Any) -> Iterator[Any]:
    """An asynchronous iterator for a script whose run() is plain."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                part = loop.run_until_complete(parts.__anext__())
            except StopAsyncIteration:
                return
            yield part
    finally:
        if hasattr(parts, "aclose"):
            loop.run_until_complete(parts.aclose())
        loop.close()


async def _asynchronous(parts: Any) -> AsyncIterator[Any]:
    """A plain iterator for a script whose run() is asynchronous."""
    try:
        for part in parts:
            yield part
    finally:
        if hasattr(parts, "close"):
            parts.close()
