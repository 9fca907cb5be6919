"""An answer in parts on an HTTP/1 connection: chunks, or bytes of a length that was announced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.router.streams import AnswerStream

if TYPE_CHECKING:
    from headgate.router.exchange import Exchange
    from headgate.router.http1 import Connection

# Up to here a chunk is copied into one buffer: that is cheaper than three of them.
_COPIED_BYTES_MAX = 16 * 1024
_LAST_CHUNK = b"0\r\n\r\n"


class PartsWriter:
    """The way of one answer to its client, no faster than the client reads.

    A client of HTTP/1.0 that was not told a length takes the end of the connection for the end of
    the answer; so where that is not so, the connection has to be reset.
    """

    __slots__ = ("_chunked", "_connection", "_exchange", "_owed", "_stream", "last")

    def __init__(
        self, connection: Connection, exchange: Exchange, stream: AnswerStream, last: bool
    ) -> None:
        unknown = stream.size is None
        self._connection = connection
        self._exchange = exchange
        self._stream = stream
        self._chunked = unknown and not exchange.version_1_0
        self._owed = 0  # bytes that wait in the connection's buffer
        self.last = last or (unknown and exchange.version_1_0)  # the connection ends with it

    @property
    def framing(self) -> str:
        """The header line that says where the answer ends."""
        if self._chunked:
            return "transfer-encoding: chunked\r\n"
        size = self._stream.size
        return "" if size is None else f"content-length: {size}\r\n"

    def begin(self, head: bytes, first: bytes) -> None:
        """Sends the head with the first part."""
        self._stream.sink = self
        self._connection.send((head, *self._framed(first)))
        self._took(len(first))

    def write(self, part: bytes) -> None:
        self._connection.send(self._framed(part))
        self._took(len(part))

    def end(self) -> None:
        if self._chunked:
            self._connection.send((_LAST_CHUNK,))
        self._connection.finish(self._exchange, self.last)

    def cut(self) -> None:
        self._connection.cut(reset=not self.framing)

    def resume(self) -> None:
        """The connection has room again."""
        owed, self._owed = self._owed, 0
        if owed:
            self._stream.take(owed)

    def _framed(self, part: bytes) -> tuple[bytes, ...]:
        if not self._chunked or not part:
            return (part,)
        head = b"%x\r\n" % len(part)
        if len(part) <= _COPIED_BYTES_MAX:
            return (b"%b%b\r\n" % (head, part),)
        return (head, part, b"\r\n")

    def _took(self, count: int) -> None:
        if self._connection.is_stalled:
            self._owed += count
        else:
            self._stream.take(count)
