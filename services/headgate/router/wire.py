"""The core-NATS protocol of one connection: bytes in, calls out. Nothing here waits.

Sends of one turn of the event loop leave as one write. A callback is called for each message in
the order of arrival.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from headgate.runtime.log import Log

# subject, reply subject, header block (empty without headers), payload
Deliver = Callable[[str, str, bytes, bytes], None]

PING_INTERVAL_S = 2.0
PINGS_OUTSTANDING_MAX = 2
# Above this much unsent data the server is not reading, and new requests are refused.
UNSENT_BYTES_MAX = 64 * 1024 * 1024
# Up to here the parts of one write are copied together: cheaper than a long list for the kernel.
_COPIED_BYTES_MAX = 64 * 1024

_log = Log("router")


class Outbox:
    """What leaves for one subject at the end of this turn of the loop, as one message.

    ``message`` numbers the messages: all parts that were put in under one number travel together.
    With a ``link`` it leaves on that, as the message that the bus would have delivered.
    """

    __slots__ = ("head", "link", "message", "parts", "size")

    def __init__(self, subject: str, reply: str, link: Wire | None = None) -> None:
        self.head = (
            f"PUB {subject} {reply} " if link is None else f"MSG {subject} 1 {reply} "
        ).encode()
        self.link = link
        self.message = 0
        self.parts: list[bytes] = []
        self.size = 0

    def take(self) -> list[bytes]:
        """The message as parts of the stream; empty from now on."""
        taken: list[bytes] = [b"%b%d\r\n" % (self.head, self.size), *self.parts, b"\r\n"]
        self.clear()
        return taken

    def clear(self) -> None:
        self.message += 1
        self.parts = []
        self.size = 0


class Wire:
    """One connection to the server, from its INFO line on.

    An ``asyncio.Protocol`` by its methods: a subclass could not be native when it is compiled.
    """

    def __init__(self, subscribers: dict[bytes, Deliver]) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.refusal = ""
        self.congested = False
        self._loop = loop
        self._subscribers = subscribers
        self._out: list[bytes] = []
        self._boxes: list[Outbox] = []
        self._pongs: deque[asyncio.Future[None] | None] = deque()
        self._kept: list[bytes] = []
        self._missing = 0

    def send(self, *parts: bytes) -> None:
        """Queue bytes for the end of this turn of the loop."""
        if not (self._out or self._boxes):
            self._loop.call_soon(self._flush)
        self._out += parts

    def send_now(self, *parts: bytes) -> None:
        """Write without waiting for the end of the turn, if nothing has to leave before."""
        transport = self._transport
        if self._out or transport.is_closing() or transport.get_write_buffer_size():
            self.send(*parts)
            return
        size = sum(map(len, parts))
        if size <= _COPIED_BYTES_MAX:
            parts = (b"".join(parts),)
        try:
            sent = os.writev(self._descriptor, parts)
        except OSError:  # it is full, or broken, which the loop notices
            sent = 0
        if sent < size:
            transport.write(b"".join(parts)[sent:])

    def collect(self, box: Outbox) -> None:
        """Take at the end of this turn what is in the box by then."""
        if not (self._out or self._boxes):
            self._loop.call_soon(self._flush)
        self._boxes.append(box)

    def ping(self) -> asyncio.Future[None]:
        """A future that is done when the server has seen all that was sent before."""
        pong = self._loop.create_future()
        self._pongs.append(pong)
        self.send(b"PING\r\n")
        return pong

    def start_pinging(self) -> None:
        """Ask for a sign of life every two seconds; a silent server is left."""
        if self.lost.done():
            return
        if len(self._pongs) >= PINGS_OUTSTANDING_MAX:
            _log.warning("bus_silent", pings=len(self._pongs))
            self.abort()
            return
        self._pongs.append(None)
        self.send(b"PING\r\n")
        self._loop.call_later(PING_INTERVAL_S, self.start_pinging)

    def abort(self) -> None:
        """End the connection and drop what has not left yet: nobody waits for it any more."""
        self._drop()
        self._transport.abort()

    def _flush(self) -> None:
        if self._transport.is_closing():
            self._drop()
            return
        out, boxes = self._out, self._boxes
        self._out, self._boxes = [], []
        for box in boxes:
            out += box.take()
        if sum(map(len, out)) <= _COPIED_BYTES_MAX:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)

    def _drop(self) -> None:
        self._out.clear()
        for box in self._boxes:
            box.clear()
        self._boxes.clear()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, they only behave alike.
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def eof_received(self) -> None:
        """The server says no more: the connection closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop()
        for waiter in (self.greeted, *self._pongs):
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionError(self.refusal or "the bus has gone"))
                waiter.exception()  # not everybody waits
        self._pongs.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._kept:
            self._kept.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._kept)
            self._kept.clear()
        at, end = 0, len(data)
        while at < end:
            used = self._take(data, at, end)
            if used <= 0:
                self._kept.append(data[at:] if at else data)
                self._missing = -used
                return
            at = used

    def _take(self, data: bytes, at: int, end: int) -> int:
        """Handle one protocol line and its payload; where the next begins, or -(missing bytes)."""
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -1
        begin = line_end + 2
        if data.startswith((b"MSG ", b"HMSG "), at):
            words = data[at:line_end].split()
            size = int(words[-1])
            if begin + size + 2 > end:
                return end - (begin + size + 2)
            head_size = 0
            if words[0] == b"HMSG":
                head_size = int(words.pop(-2))
            head = data[begin : begin + head_size]
            self._deliver(words, head, data[begin + head_size : begin + size])
            return begin + size + 2
        self._obey(data[at:line_end])
        return begin

    def _deliver(self, words: list[bytes], head: bytes, payload: bytes) -> None:
        subscriber = self._subscribers.get(words[2])
        if subscriber is None:
            return
        reply = words[3].decode() if len(words) == 5 else ""
        try:
            subscriber(words[1].decode(), reply, head, payload)
        except Exception:
            # A fault in one message must not end the loop that all others need.
            _log.exception("message_failed", subject=words[1].decode())

    def _obey(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG":
            pong = self._pongs.popleft() if self._pongs else None
            if pong is not None and not pong.done():
                pong.set_result(None)
        elif line.startswith(b"INFO "):
            if not self.greeted.done():
                self.greeted.set_result(json.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            self.refusal = line[4:].decode(errors="replace").strip().strip("'")
            _log.error("bus_error", error=self.refusal)
