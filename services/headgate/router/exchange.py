"""One HTTP request and its answer, and what a connection asks of the application behind it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Protocol

from headgate.router.answers import Answer
from headgate.router.core import Refusal
from headgate.router.headers import Head
from headgate.router.shape import Shape
from headgate.router.spool import RequestBody, Spool
from headgate.router.turns import Turns
from headgate_contracts import limits

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}


class Application(Protocol):
    """What stands behind the edge."""

    closing: bool
    date: str
    turns: Turns

    @property
    def body_bytes_max(self) -> int: ...

    @property
    def message_bytes_max(self) -> int: ...

    def spool(self, body: bytes) -> Spool:
        """Where a body goes that is larger than ``message_bytes_max``. Raises SpoolError."""

    def receive(self, exchange: Exchange) -> Answer | None:
        """The headers are here: an answer refuses, None asks for the body."""

    def handle(self, exchange: Exchange) -> None:
        """The whole request is here."""

    def leave(self, exchange: Exchange) -> None:
        """The client of an exchange that is being handled has gone."""

    def refuse(self, refusal: Refusal, head: Head) -> Answer:
        """The answer to a request that HTTP itself refuses."""


# Pieces of a body that are smaller grow together: a body in single bytes takes no more memory.
_PIECE_BYTES_MIN = 16 * 1024


class Answering(Protocol):
    """The connection that an exchange came by."""

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Send it, in its turn."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_pieces", "admission", "body", "body_bytes", "complete", "connection", "head",
        "keep_alive", "method", "place", "refused", "started", "ticket", "url", "version_1_0",
    )  # fmt: skip

    def __init__(self, connection: Answering, shape: Shape | None = None) -> None:
        """One that is about to be read, or of a shape that is known."""
        self.connection = connection
        self.body: RequestBody = b""  # the whole of it, once there is no more to come
        self.body_bytes = 0  # so far
        self._pieces: list[bytes | bytearray] = []
        self.complete = False  # nothing more of it will be read
        self.started = False
        self.refused: Answer | None = None
        self.admission: Any = None  # the application's own notes: what it knows of this request,
        self.ticket: Any = None
        self.place: Any = None  # and what the URL means
        self.keep_alive = False
        self.version_1_0 = False
        if shape is None:
            self.head, self.method, self.url = Head(), "", b""
        else:
            self.head, self.method, self.url = shape.head, shape.method, shape.url
            self.place = shape.place

    @classmethod
    def repeated(cls, connection: Answering, shape: Shape, body: bytes) -> Exchange:
        """A whole request whose header block is known."""
        made = cls(connection, shape)
        made.body, made.body_bytes = body, len(body)
        made.keep_alive = made.complete = True
        return made

    def add(self, data: bytes, application: Application) -> None:
        """More of its body: in memory, or on disk when no message can hold it. SpoolError."""
        pieces, body = self._pieces, self.body
        self.body_bytes += len(data)
        if isinstance(body, Spool):
            body += data
        elif self.body_bytes > application.message_bytes_max:
            self.body = application.spool(b"".join([*pieces, data]))
            pieces.clear()
        elif pieces and len(pieces[-1]) < _PIECE_BYTES_MIN:
            pieces[-1] += data
        else:
            pieces.append(data)

    def end(self) -> None:
        """There is no more of it."""
        if self._pieces:
            self.body = b"".join(self._pieces)
            self._pieces.clear()
        self.complete = True

    def reply(self, answer: Answer) -> None:
        """Send the answer, unless the client has gone."""
        self.connection.answer(self, answer)


def unacceptable(version: str, exchange: Exchange) -> Refusal | None:
    """What the parser lets pass and we do not; such a connection ends with its answer."""
    if version not in ("1.0", "1.1"):
        return Refusal(505, "HttpVersionNotSupported", f"HTTP/{version} is not spoken here")
    if "," in exchange.head.host:
        return Refusal(400, "BadRequest", "there is more than one Host")
    if len(exchange.url) > limits.URL_BYTES_MAX:
        return Refusal(414, "UriTooLong", f"the URL is longer than {limits.URL_BYTES_MAX} bytes")
    return None


def framing_head(exchange: Exchange) -> bytes:
    """A header block that says where the body of a request ends, and that it is the last one."""
    head = exchange.head
    lines = ["POST / HTTP/1.1", "connection: close"]
    if head.transfer_coding:
        lines.append(f"transfer-encoding: {head.transfer_coding}")
    elif head.content_length:
        lines.append(f"content-length: {head.content_length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer_head(exchange: Exchange, answer: Answer, framing: str, last: bool, date: str) -> bytes:
    """The header block of an answer; ``framing`` says, as a line, where its body ends."""
    status = _STATUS_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} -\r\n"
    if last:
        framing += "connection: close\r\n"
    elif exchange.version_1_0:
        framing += "connection: keep-alive\r\n"
    return f"{status}{answer.lines}{framing}date: {date}\r\n\r\n".encode("latin-1")
