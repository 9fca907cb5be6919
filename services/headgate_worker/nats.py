"""One connection to a NATS server: its lines parsed, our writes gathered per turn of the loop."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional, cast

LINE_BYTES_MAX = 1024 * 1024  # an INFO line lists every server of a cluster
READ_BYTES = 64 * 1024
READ_LARGE_BYTES = 1024 * 1024  # of a message that needs it

# subject, reply subject, payload
Handler = Callable[[str, str, memoryview], None]


class ProtocolError(Exception):
    """The other side does not speak NATS."""


class RefusedError(Exception):
    """The server does not accept our credentials; the text is the server's."""


def is_refusal(error: str) -> bool:
    """Whether a ``-ERR`` text means that the credentials are not accepted."""
    return error.lower().endswith(("authorization violation", "expired", "revoked"))


class Connection:
    """One connection: an ``asyncio.Protocol`` by its methods. Callbacks are its owner's.

    Not by its class, which would cost a compiled one its native attributes.

    They are called on the loop. Once the connection is lent, another thread may read it; then only
    ``on_message`` is called from there.
    """

    def __init__(
        self,
        on_message: Callable[[bytes, str, str, memoryview], None],
        on_pong: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._on_message = on_message
        self._on_pong = on_pong
        self._on_error = on_error
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.info: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.error = ""
        self.on_made: Callable[[Connection], None] = lambda _: None
        self._transport: Optional[asyncio.Transport] = None
        self._out: list[bytes] = []
        self._rest: list[bytes] = []  # of a publish_now that the socket did not take
        self._lock = threading.Lock()
        self.lent = False
        # The socket under a number of our own: none that another file has taken over meanwhile.
        self._descriptor = -1
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = 0

    # -- writing ------------------------------------------------------------------------------

    def write(self, *parts: bytes) -> None:
        """Queues parts of the stream; everything of one turn of the loop leaves together."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.extend(parts)

    def publish(self, subject: str, payload: bytes) -> None:
        self.write(b"PUB %s %d\r\n" % (subject.encode(), len(payload)), payload, b"\r\n")

    def publish_now(self, subject: str, payload: bytes) -> bool:
        """From any thread: leaves at once if nothing is half written. False: it never will."""
        data = b"%b\r\n%b\r\n" % (self._head(subject, len(payload)), payload)
        with self._lock:
            if self._descriptor < 0:
                return False
            if not self._waits():
                try:
                    sent = os.write(self._descriptor, data)
                except BlockingIOError:
                    sent = 0
                except OSError:  # the loop will notice as well
                    return False
                if sent == len(data):
                    return True
                data = data[sent:]
            if not self._rest:
                self._on_loop(self._flush)
            self._rest.append(data)
            return True

    def _head(self, subject: str, size: int) -> bytes:
        return b"PUB %b %d" % (subject.encode(), size)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # it is closed: the process ends
            self._loop.call_soon_threadsafe(call, *arguments)

    def _waits(self) -> bool:
        """Whether there is a part of the stream that has to leave first."""
        assert self._transport is not None
        try:
            return bool(self._rest or self._transport.get_write_buffer_size())
        except RuntimeError:  # its buffer changes while it is looked at
            return True

    def subscribe(self, sid: int, subject: str, queue: str) -> None:
        self.write(f"SUB {subject} {queue} {sid}\r\n".encode())

    def unsubscribe(self, sid: int) -> None:
        self.write(b"UNSUB %d\r\n" % sid)

    def ping(self) -> None:
        self.write(b"PING\r\n")

    def abort(self) -> None:
        """Ends the connection without waiting for anything still to be written."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Ends the connection after what was written."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _flush(self) -> None:
        with self._lock:
            parts = self._rest + self._out
            self._rest, self._out = [], []
            if parts and self._transport is not None and not self._transport.is_closing():
                self._transport.write(b"".join(parts))

    # -- reading ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, they only behave alike.
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor = os.dup(transport.get_extra_info("socket").fileno())
        self.on_made(self)

    def eof_received(self) -> None:
        """The other side says no more: the connection closes."""

    def pause_writing(self) -> None:
        """Nobody stops for it: what waits is bounded by what is in hand."""

    def resume_writing(self) -> None:
        """So nobody goes on."""

    def connection_lost(self, error: Optional[Exception]) -> None:
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1
        if not self.info.done():
            self.info.set_exception(ConnectionError(self.error or str(error or "closed")))
            self.info.exception()  # whoever waited for it has gone already, or gets it anyway
        if not self.lost.done():
            self.lost.set_result(None)

    def lend(self) -> int:
        """The socket under one more number, for whoever reads it from now on; the loop does not."""
        assert self._transport is not None
        self._transport.pause_reading()
        self.lent = True
        return os.dup(self._descriptor)

    def read(self, descriptor: int) -> bool:
        """Takes what has come on ``descriptor``; False when that was the end."""
        try:
            missing_bytes = min(self._needed_bytes - self._held_bytes, READ_LARGE_BYTES)
            data = os.read(descriptor, max(missing_bytes, READ_BYTES))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            data = b""
        if data:
            self.data_received(data)
        else:
            self._on_loop(self.abort)
        return bool(data)

    def data_received(self, data: bytes) -> None:
        if self._chunks:
            # Joined once, when the message that is under way is whole: not with every packet.
            self._chunks.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._needed_bytes:
                return
            data = b"".join(self._chunks)
            self._chunks = []
        try:
            used = self._consume(data)
        except (ProtocolError, ValueError, IndexError) as error:
            self._on_loop(self._give_up, f"cannot understand the server: {error}")
            return
        if used < len(data):
            self._chunks = [data[used:]]
            self._held_bytes = len(data) - used

    def _consume(self, data: bytes) -> int:
        """Handles every whole line and message; returns how far that went."""
        position, size = 0, len(data)
        view = memoryview(data)
        self._needed_bytes = 0
        while position < size:
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > LINE_BYTES_MAX:
                    raise ProtocolError("a line without end")
                break
            if data.startswith(b"MSG ", position):
                fields = data[position + 4 : end].split(b" ")
                start = end + 2
                stop = start + int(fields[-1])
                if stop + 2 > size:
                    self._needed_bytes = stop + 2 - position
                    break
                reply = fields[2].decode() if len(fields) == 4 else ""
                self._on_message(fields[1], fields[0].decode(), reply, view[start:stop])
                position = stop + 2
            else:
                line = data[position:end]
                if self.lent:
                    self._on_loop(self._line, line)
                else:
                    self._line(line)
                position = end + 2
        return position

    def _give_up(self, error: str) -> None:
        self.error = error
        self._on_error(error)
        self.abort()

    def _line(self, line: bytes) -> None:
        if line == b"PONG":
            self._on_pong()
        elif line == b"PING":
            self.write(b"PONG\r\n")
        elif line.startswith(b"INFO "):
            if not self.info.done():
                self.info.set_result(json.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            self.error = line[4:].strip().strip(b"'").decode("utf-8", "replace")
            self._on_error(self.error)
        elif line != b"+OK":
            self._give_up(f"cannot understand the server: unknown line {line[:40]!r}")
