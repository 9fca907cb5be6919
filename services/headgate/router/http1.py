"""HTTP/1.1 on one connection: bytes to exchanges and back. Knows nothing of scoring.

The application is asked twice: with the headers (``receive``), when it may refuse before the body
is read, and with the whole request (``handle``), which it answers by ``exchange.reply``, at once or
later. Pipelined requests are handled one after the other. The parser is llhttp in its strict mode;
what it refuses is answered 400 and the connection closed. A client that repeats a header block,
but for the length of its body, is understood from the first time (``Shape``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import cast

import httptools

from headgate.router import core
from headgate.router.answers import Answer
from headgate.router.core import Refusal
from headgate.router.exchange import Application, Exchange, answer_head, framing_head, unacceptable
from headgate.router.parts import PartsWriter
from headgate.router.shape import Shape
from headgate.router.spool import SpoolError
from headgate.runtime.log import Log
from headgate_contracts import limits

HEAD_TIMEOUT_S = 10.0
BODY_IDLE_TIMEOUT_S = 30.0
STALLED_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 75.0
LINGER_S = 2.0

_HEAD_BYTES_MAX = limits.REQUEST_HEADER_BYTES_MAX + limits.URL_BYTES_MAX + 8 * 1024
# A refused request may still send this much, so that its connection can be kept.
_IGNORED_BYTES_MAX = 64 * 1024
# What a message may carry besides its body: chunk sizes, extensions, trailers.
_FRAMING_BYTES_MAX = 256 * 1024
_FRAMING_PER_BODY_BYTE = 8
_PIPELINED_MAX = 8
# Larger ones seldom arrive in one piece.
_REPEATED_BODY_BYTES_MAX = 64 * 1024
# Up to here head and body are copied together: one buffer is cheaper for the kernel than two.
_COPIED_BYTES_MAX = 64 * 1024

_NO_BODY = (204, 304)
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends RST
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_IDLE, _HEAD, _BODY = range(3)

_log = Log("router")


class Connection:
    """A client's connection. An asyncio.Protocol by its methods: a subclass could not be native."""

    def __init__(self, application: Application, connections: set[Connection]) -> None:
        self._application = application
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None  # the one being read
        self._queue: deque[Exchange] = deque()  # those to be answered, in order
        self._shape: Shape | None = None
        self._data = b""  # what is being parsed
        self._phase = _IDLE
        self._since = 0.0  # when this phase began, or the body last grew
        self._stalled_since = 0.0  # when the client last read something, while it reads too slowly
        self._unread_bytes = 0  # what it had not read then
        self._parts: PartsWriter | None = None  # the answer in parts that is under way
        self._received = 0  # bytes of the message being read
        self._deaf = False  # what still comes is ignored
        self._lingering = False
        self._advancing = False
        self._paused = False
        self._repeated_bytes_max = min(_REPEATED_BODY_BYTES_MAX, application.body_bytes_max)
        self._loop = asyncio.get_running_loop()

    @property
    def is_idle(self) -> bool:
        return not self._queue and self._phase == _IDLE

    @property
    def is_stalled(self) -> bool:
        """Whether the client has to read before more is sent."""
        return self._stalled_since > 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, they only behave alike.
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._loop.time()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._deaf = True
        queue, self._queue = self._queue, deque()
        if queue and queue[0].started:
            self._application.leave(queue[0])

    def eof_received(self) -> None:
        """The client says no more: the connection closes."""

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._phase == _IDLE and not self._queue:
            if self._repeat(data):
                return
            self._data = data
        self._received += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            _log.exception("edge_failed")
            self._transport.abort()
        except httptools.HttpParserError:
            self._refuse_and_close(Refusal(400, "BadRequest", "this is not valid HTTP/1.1"))
        if self._phase != _IDLE and not self._deaf:
            self._check_size()
            if not self._paused:
                self._application.turns.take(self._transport, len(data))

    def _feed(self, data: bytes) -> None:
        """Parse. An upgrade is declined by going on as if nobody had asked; the parser would have
        dropped the body. The connection ends with the answer: a proxy may think it a tunnel."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            exchange = self._exchange
            if exchange is not None and not self._deaf:
                exchange.keep_alive = False
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(framing_head(exchange) + data[upgrade.args[0] :])

    def _repeat(self, data: bytes) -> bool:
        """Take a request that differs from the one before only in its body."""
        shape = self._shape
        body = shape.body_in(data) if shape is not None else None
        if shape is None or body is None or len(body) > self._repeated_bytes_max:
            return False
        self._since = self._loop.time()
        exchange = Exchange.repeated(self, shape, body)
        exchange.refused = self._application.receive(exchange)
        self._queue.append(exchange)
        self._advance()
        return True

    def pause_writing(self) -> None:
        self._stalled_since = self._loop.time()
        self._unread_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if self._parts is not None:
            self._parts.resume()
        self._advance()

    # httptools

    def on_message_begin(self) -> None:
        if self._exchange is not None:
            return  # it goes on, see _feed
        self._exchange = Exchange(self)
        self._phase = _HEAD
        self._since = self._loop.time()
        self._received = 0

    def on_url(self, url: bytes) -> None:
        if self._exchange is not None and self._phase == _HEAD:
            self._exchange.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are ignored: they come after all decisions.
        if self._exchange is not None and self._phase == _HEAD:
            self._exchange.head.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self._deaf or self._phase != _HEAD:
            return
        parser = self._parser
        exchange.method = parser.get_method().decode("latin-1")
        version = parser.get_http_version()
        exchange.version_1_0 = version == "1.0"
        exchange.keep_alive = parser.should_keep_alive()
        self._phase = _BODY
        self._since = self._loop.time()
        self._received = 0
        refusal = unacceptable(version, exchange)
        if refusal is not None:
            exchange.refused = self._application.refuse(refusal, exchange.head)
        else:
            exchange.refused = self._application.receive(exchange)
        self._queue.append(exchange)
        if refusal is not None:
            self._end_after_this()
            return
        expects = exchange.head.expect.lower() == "100-continue" and not exchange.version_1_0
        if exchange.refused is not None:
            if expects or int(exchange.head.content_length or 0) > _IGNORED_BYTES_MAX:
                self._end_after_this()
        elif expects and len(self._queue) == 1:
            self._transport.write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._deaf:
            return
        self._since = self._loop.time()
        if exchange.refused is not None:
            if self._received > _IGNORED_BYTES_MAX:
                self._end_after_this()
            return
        bytes_max = self._application.body_bytes_max
        if exchange.body_bytes + len(data) > bytes_max:
            exchange.refused = self._application.refuse(core.too_large(bytes_max), exchange.head)
            self._end_after_this()
            return
        try:
            exchange.add(data, self._application)
        except SpoolError as error:
            _log.warning("no_room", error=str(error))
            exchange.refused = self._application.refuse(core.no_room(), exchange.head)
            self._end_after_this()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # its body is still to come, see _feed
        exchange, self._exchange = self._exchange, None
        self._phase = _IDLE
        self._since = self._loop.time()
        if exchange is None or self._deaf:
            return
        exchange.end()
        if self._data and exchange.admission is not None:
            self._shape = Shape.of(exchange, self._data)
        self._data = b""
        if len(self._queue) > _PIPELINED_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._advance()

    # Answers

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Write the answer of the exchange that is first in the queue."""
        if not self._queue or self._queue[0] is not exchange:
            return  # the client has gone
        last = not exchange.keep_alive or (self._application.closing and len(self._queue) == 1)
        if answer.stream is not None and answer.status not in _NO_BODY:
            parts = self._parts = PartsWriter(self, exchange, answer.stream, last)
            date = self._application.date
            head = answer_head(exchange, answer, parts.framing, parts.last, date)
            parts.begin(head, answer.body)
            return
        self._write(exchange, answer, last)
        self.finish(exchange, last)

    def send(self, buffers: Sequence[bytes]) -> None:
        """Send something of the answer in parts that is under way."""
        self._transport.writelines(buffers)

    def cut(self, *, reset: bool) -> None:
        """End the connection in the middle of an answer, after what of it was sent, or by RST."""
        self._queue.clear()
        self._parts = None
        self._deaf = True
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
        else:
            self._transport.close()

    def finish(self, exchange: Exchange, last: bool) -> None:
        """The answer of the exchange that is first in the queue has been sent."""
        if not self._queue or self._queue[0] is not exchange:
            return  # the client has gone
        self._queue.popleft()
        if self._parts is not None:
            self._parts = None
            self._since = self._loop.time()  # it has not been idle meanwhile
        if last:
            self._close()
            return
        if self._paused and len(self._queue) <= _PIPELINED_MAX:
            self._paused = False
            self._transport.resume_reading()
        self._advance()

    def _advance(self) -> None:
        """Handle the next complete request. A loop: an answer given at once comes back here."""
        if self._advancing:
            return
        self._advancing = True
        while self._queue and not self._stalled_since:
            exchange = self._queue[0]
            if exchange.started or not exchange.complete:
                break
            exchange.started = True
            if exchange.refused is not None:
                self.answer(exchange, exchange.refused)
            else:
                self._application.handle(exchange)
        self._advancing = False

    def _write(self, exchange: Exchange, answer: Answer, last: bool) -> None:
        body = answer.body
        if answer.status in _NO_BODY:
            body, framing = b"", ""
        else:
            framing = f"content-length: {len(body)}\r\n"
        head = answer_head(exchange, answer, framing, last, self._application.date)
        if exchange.method == "HEAD" or not body:
            self._transport.write(head)
        elif len(body) <= _COPIED_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    # Ends

    def close_if_idle(self) -> None:
        if self.is_idle:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def check(self, now: float) -> None:
        """Enforce the time limits; called about once a second."""
        waited = now - self._since
        if self._stalled_since:
            unread_bytes = self._transport.get_write_buffer_size()
            if unread_bytes < self._unread_bytes:
                self._unread_bytes, self._stalled_since = unread_bytes, now
            elif now - self._stalled_since > STALLED_TIMEOUT_S:
                self._transport.abort()
        elif self._lingering:
            if waited > LINGER_S:
                self._transport.abort()
        elif self._deaf:
            return
        elif self._phase == _HEAD and waited > HEAD_TIMEOUT_S:
            self._refuse_and_close(Refusal(408, "SlowRequest", "the headers came too slowly"))
        elif self._phase == _BODY and waited > BODY_IDLE_TIMEOUT_S:
            self._refuse_and_close(Refusal(408, "SlowRequest", "the body came too slowly"))
        elif self.is_idle and waited > KEEP_ALIVE_S:
            self._transport.close()

    def _check_size(self) -> None:
        """Limit what the parser gathers by itself: it has no bounds of its own."""
        if self._phase == _HEAD:
            if self._received > _HEAD_BYTES_MAX:
                why = "the headers are too large"
                self._refuse_and_close(Refusal(431, "RequestHeaderFieldsTooLarge", why))
        elif self._exchange is not None and self._exchange.refused is None:
            body_bytes = self._exchange.body_bytes
            if self._received > _FRAMING_BYTES_MAX + (1 + _FRAMING_PER_BODY_BYTE) * body_bytes:
                self._refuse_and_close(Refusal(400, "BadRequest", "too much besides the body"))
        elif self._received > _IGNORED_BYTES_MAX + _FRAMING_BYTES_MAX:
            self._end_after_this()

    def _refuse_and_close(self, refusal: Refusal) -> None:
        """Answer the request being read, after those before it, and end the connection."""
        exchange = self._exchange or Exchange(self)
        self._exchange = exchange
        if exchange.refused is None:
            exchange.refused = self._application.refuse(refusal, exchange.head)
        if exchange not in self._queue:
            self._queue.append(exchange)
        self._end_after_this()

    def _end_after_this(self) -> None:
        """The newest request is the last of this connection; nothing more is read of it."""
        self._deaf = True
        self._exchange = None
        if self._queue:
            self._queue[-1].keep_alive = False
            self._queue[-1].complete = True
            self._advance()
        else:
            self._transport.close()

    def _close(self) -> None:
        """Close so that the answer arrives: closing on unread data would reset the connection."""
        if self._phase == _IDLE and not self._deaf:
            self._transport.close()
            return
        self._deaf = True
        self._lingering = True
        self._since = self._loop.time()
        if self._transport.can_write_eof():
            self._transport.write_eof()
