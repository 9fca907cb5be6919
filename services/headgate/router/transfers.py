"""What takes more than one message: bodies larger than the bus takes, and answers in parts.

Neither is ever held as a whole in memory. A body is sent as far as the instance allows, an answer
goes on as far as the client reads, and an answer that cannot be completed is cut off, so that its
client sees the break. The frames are described in ``headgate_contracts.scoring``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.router import core
from headgate.router.answers import ModelAnswer
from headgate.router.core import Refusal
from headgate.router.lane import Lane
from headgate.router.requests import Flight, Outcome, Request
from headgate.router.spool import Spool
from headgate.router.streams import AnswerStream
from headgate.router.table import Instance
from headgate.runtime.clock import Clock
from headgate_contracts import limits
from headgate_contracts.scoring import Control, encode_frame_head


class _Sender:
    """A body on its way to an instance."""

    __slots__ = ("allowed", "body", "flight", "sent", "sequence")

    def __init__(self, flight: Flight, body: Spool) -> None:
        self.flight = flight
        self.body = body
        self.sent = self.sequence = self.allowed = 0


class Transfers:
    """All of them in one router.

    ``opened`` is called when an answer begins, ``ended`` with its outcome when nothing more of it
    goes to its client, which may be before its instance has ended it.
    """

    def __init__(
        self,
        lane: Lane,
        clock: Clock,
        body_bytes_max: int,
        opened: Callable[[AnswerStream, ModelAnswer], None],
        ended: Callable[[AnswerStream, Outcome], None],
    ) -> None:
        self._lane = lane
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._opened = opened
        self._ended = ended
        self._senders: dict[int, _Sender] = {}
        self._streams: dict[int, AnswerStream] = {}

    # Bodies

    def send_body(self, flight: Flight) -> None:
        """Sends a body that was too large for the request's own frame, as its instance asks."""
        if flight.request is not None and isinstance(flight.request.body, Spool):
            self._senders[flight.number] = _Sender(flight, flight.request.body)

    def _send_on(self, sender: _Sender) -> None:
        request = sender.flight.request
        if request is None or request.flight is not sender.flight:  # it is over, one way or another
            del self._senders[sender.flight.number]
            return
        allowed = min(sender.allowed, len(sender.body))
        while sender.sent < allowed:
            part = sender.body.read(sender.sent, min(limits.BODY_PART_BYTES, allowed - sender.sent))
            meta = {"c": Control.BODY, "q": sender.sequence}
            if not self._say(sender.flight, meta, part):
                return  # the bus takes no more now: tried again a moment later
            sender.sent += len(part)
            sender.sequence += 1
        if sender.sent == len(sender.body):
            del self._senders[sender.flight.number]

    # Frames of instances

    def hear(self, flight: Flight, meta: dict[str, Any], body: bytes) -> bool:
        """A frame with ``c``; True when the instance has nothing more to say of the request."""
        kind = meta["c"]
        if kind == Control.PART:
            self._on_part(flight, meta, body)
            return "more" not in meta
        if kind == Control.BROKEN:
            self._cut(self._streams.get(flight.number), core.broken_off(str(meta.get("e") or "")))
            return True
        sender, to = self._senders.get(flight.number), meta.get("to")
        if kind == Control.TAKE and sender is not None and type(to) is int:
            sender.allowed = max(sender.allowed, to)
            self._send_on(sender)
        return False

    def _on_part(self, flight: Flight, meta: dict[str, Any], body: bytes) -> None:
        stream, sequence = self._streams.get(flight.number), meta.get("q")
        if stream is None:
            if sequence == 0 and flight.request is not None:
                self._begin(flight, flight.request, meta, body)
            return  # otherwise nobody waits, and its instance has been told
        if type(sequence) is int and sequence < stream.sequence:
            return  # said again after a reconnect
        if sequence != stream.sequence:
            self._leave(stream, core.broken_off("a part was lost on the bus"))
            return
        stream.sequence += 1
        stream.received += len(body)
        stream.since = self._clock.monotonic()
        if stream.sink is None:
            stream.take(len(body))
        elif body:
            stream.sink.write(body)
        if "more" not in meta:
            self._end(stream, meta)

    def _begin(self, flight: Flight, request: Request, meta: dict[str, Any], body: bytes) -> None:
        """The first part: the answer goes on to whoever asked."""
        idle_s = request.deployment.timeout_ms / 1000
        stream = AnswerStream(flight, request, meta, idle_s, self._let, self._abandon)
        self._streams[flight.number] = stream
        stream.received = len(body)
        stream.said = stream.since = self._clock.monotonic()
        if request.left:
            self._leave(stream, core.client_left())
            return
        if stream.size is not None and stream.size > self._body_bytes_max:
            self._leave(stream, core.answer_too_large(stream.size, self._body_bytes_max))
            return
        self._opened(stream, ModelAnswer(meta, body, stream))
        if stream.sink is None:
            stream.take(len(body))
        if "more" not in meta:
            self._end(stream, meta)

    def _end(self, stream: AnswerStream, meta: dict[str, Any]) -> None:
        if stream.size is not None and stream.received != stream.size:
            self._cut(stream, core.broken_off("it has not the length that it announced"))
        elif self._streams.pop(stream.flight.number, None) is not None:
            self._ended(stream, stream.outcome(meta))  # on record before the last byte leaves
            if stream.sink is not None:
                stream.sink.end()

    # Early ends

    def say_left(self, flight: Flight) -> None:
        """Tells an instance that nobody waits for its answer."""
        self._say(flight, {"c": Control.LEAVE})

    def lose(self, instance: Instance | None, reason: Refusal) -> None:
        """An instance has ended, or (None) the bus has gone: its answers are cut off."""
        for stream in list(self._streams.values()):
            if instance is None or stream.flight.instance is instance:
                self._cut(stream, reason)

    def look_around(self, now: float) -> None:
        """Called some times a second: what waits too long is cut off, what could not leave is."""
        for stream in list(self._streams.values()):
            if not stream.is_waited_for:
                if now - stream.said > limits.STREAM_KEPT_EVERY_S:
                    self._let(stream)
            elif now - stream.since > stream.idle_s:
                self._leave(stream, core.part_too_slow(stream.idle_s))
        for sender in list(self._senders.values()):
            self._send_on(sender)

    def _abandon(self, stream: AnswerStream) -> None:
        """Its client has gone."""
        if stream.flight.number in self._streams:
            stream.sink = None
            self._leave(stream, core.client_left())

    def _leave(self, stream: AnswerStream, reason: Refusal) -> None:
        """Cut off by us: the instance hears it, and says when it has ended."""
        self.say_left(stream.flight)
        self._cut(stream, reason)

    def _cut(self, stream: AnswerStream | None, reason: Refusal) -> None:
        if stream is None or self._streams.pop(stream.flight.number, None) is None:
            return
        if stream.sink is not None:
            stream.sink.cut()
        self._ended(stream, reason)

    # To instances

    def _let(self, stream: AnswerStream) -> None:
        """An instance may go on with its answer, or hears that somebody still reads it."""
        stream.said = self._clock.monotonic()
        if not stream.is_waited_for:
            stream.since = stream.said
        stream.allowed = stream.taken + limits.ANSWER_WINDOW_BYTES
        self._say(stream.flight, {"c": Control.TAKE, "to": stream.allowed})

    def _say(self, flight: Flight, meta: dict[str, Any], body: bytes = b"") -> bool:
        instance = flight.instance
        said = {"id": flight.number, "r": instance.reply, **meta}
        return self._lane.send(
            instance.parts_subject, "", (encode_frame_head(said, len(body)), body)
        )
