"""What takes more than one message: answers in parts, and requests larger than the bus takes.

Each side says how far the other may go, in bytes from the beginning (``take``), so neither holds
more than a window of what the other has not used yet. Sequence numbers tell whole from torn. When
the connection to the bus is lost everything under way ends: parts may be missing.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional, Union

from headgate_worker import core, frames
from headgate_worker.bus import Bus
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import too_large
from headgate_worker.streams import Part, Stream, Whole

LAST_FRAME_MS = 10_000.0  # how long the end of an answer is still worth saying
# Answers that the model has finished and that clients still carry away; above it the instance is
# full, so that slow clients cost it time but no more memory.
LEAVING_BYTES_MAX = 256 * 1024 * 1024

Key = tuple[str, Any]  # the router's inbox for us, and its number for the request


class Outgoing:
    """An answer that leaves in parts."""

    __slots__ = (
        "allowed", "answer", "gathered", "give_up_ms", "over", "request", "sent", "sequence",
        "source",
    )  # fmt: skip

    def __init__(self, request: Request, answer: Answer, source: Union[Stream, Whole]) -> None:
        self.request = request
        self.answer = answer
        self.source = source
        self.allowed: float = request.window or float("inf")
        self.heard()
        self.sent = 0
        self.sequence = 0
        self.over = False
        self.gathered = bytearray()  # for a sender that takes only whole answers

    def heard(self) -> None:
        """Somebody still reads it."""
        self.give_up_ms = (time.monotonic() + core.STREAM_GIVEN_UP_S) * 1e3

    @property
    def holds_slot(self) -> bool:
        """Whether the model is still at it."""
        return isinstance(self.source, Stream)


class Incoming:
    """A request whose body comes in parts."""

    __slots__ = ("allowed", "body", "request", "sequence", "size")

    def __init__(self, request: Request, size: int) -> None:
        self.request = request
        self.size = size
        self.body = io.BytesIO()
        self.sequence = 0
        self.allowed = 0


class Transfers:
    """All of them in one process; lives on the bus's event loop.

    ``submit`` takes a request that is whole; ``finished`` is called when an answer has left and
    when a request was given up, with whether that frees a slot; ``in_flight`` counts the slots.
    """

    def __init__(
        self,
        bus: Bus,
        submit: Callable[[Request], None],
        finished: Callable[[bool], None],
        in_flight: Callable[[], int],
    ) -> None:
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._submit = submit
        self._finished = finished
        self._in_flight = in_flight
        self._outgoing: dict[Key, Outgoing] = {}
        self._incoming: dict[Key, Incoming] = {}
        self._leaving_bytes = 0

    def __len__(self) -> int:
        return len(self._outgoing) + len(self._incoming)

    @property
    def crowded(self) -> bool:
        """Whether clients have to carry something away before more may be made."""
        return self._leaving_bytes > LEAVING_BYTES_MAX

    def lose_all(self) -> None:
        """The connection to the bus is lost."""
        for outgoing in list(self._outgoing.values()):
            self._break_off(outgoing)
        for key in list(self._incoming):
            self._give_up(key)

    # -- answers ------------------------------------------------------------------------------

    def send(self, request: Request, answer: Answer) -> None:
        """Sends an answer that has a stream, or is too large for one message."""
        source = answer.stream or Whole(answer.body, answer.run_ms)
        outgoing = Outgoing(request, answer, source)
        self._outgoing[request.reply, request.id] = outgoing
        if not outgoing.holds_slot:
            self._leaving_bytes += len(answer.body)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._pump, outgoing)

        source.attach(wake)

    def left(self, key: Key) -> Optional[Request]:
        """Nobody waits for this request any more; its request, if it is one of ours."""
        outgoing = self._outgoing.get(key)
        if outgoing is not None:
            self._break_off(outgoing)
            return outgoing.request
        if key in self._incoming:
            self._give_up(key)
        return None

    def may_go_on(self, key: Key, to: int) -> None:
        """The router takes the answer up to that byte."""
        outgoing = self._outgoing.get(key)
        if outgoing is not None:
            outgoing.heard()
            outgoing.allowed = max(outgoing.allowed, to)
            self._pump(outgoing)

    def _break_off(self, outgoing: Outgoing) -> None:
        outgoing.request.left = True
        outgoing.source.leave()
        self._pump(outgoing)  # or later, when whoever makes it has noticed

    def _pump(self, outgoing: Outgoing) -> None:
        """Says what may be said now."""
        source = outgoing.source
        while not outgoing.over:
            room = outgoing.allowed - outgoing.sent
            part: Part = source.take(int(min(room, 2**31))) if room > 0 else b""
            ended = source.ended
            if not part and not ended:
                return
            outgoing.sent += len(part)
            if outgoing.sent >= outgoing.allowed:
                outgoing.heard()  # from now on it waits
            if not outgoing.request.window:
                self._gather(outgoing, part, ended)
            elif not ended:
                self._say(outgoing, part)
            elif source.error or source.left:
                if part:
                    self._say(outgoing, part)
                self._end(outgoing, {"c": core.BROKEN, "e": source.error}, b"")
            elif outgoing.sequence:
                self._end(outgoing, {"c": core.PART, **_run_ms(source)}, part)
            else:  # it fits into one frame after all
                self._end(outgoing, {**_head(outgoing.answer), **_run_ms(source)}, part)

    def _gather(self, outgoing: Outgoing, part: Part, ended: bool) -> None:
        outgoing.gathered += part
        if len(outgoing.gathered) > core.SCORING_BODY_BYTES_MAX:
            answer = too_large(outgoing.sent)
            self._end(outgoing, _head(answer), answer.body)
            outgoing.source.leave()
        elif ended and (outgoing.source.error or outgoing.source.left):
            self._end(outgoing, {"c": core.BROKEN, "e": outgoing.source.error}, b"")
        elif ended:
            meta = {**_head(outgoing.answer), **_run_ms(outgoing.source)}
            self._end(outgoing, meta, bytes(outgoing.gathered))

    def _say(self, outgoing: Outgoing, part: Part) -> None:
        """One of several frames."""
        meta: dict[str, Any] = {"id": outgoing.request.id, "c": core.PART, "more": True}
        meta["q"] = outgoing.sequence
        if not outgoing.sequence:
            meta.update(_head(outgoing.answer))
            meta.update(_held_ms(outgoing.request))
            if outgoing.source.size is not None:
                meta["size"] = outgoing.source.size
            if not outgoing.holds_slot:
                meta.update(_run_ms(outgoing.source))
                meta["n"] = self._in_flight()
        outgoing.sequence += 1
        self._bus.publish(outgoing.request.reply, frames.encode(meta, part))

    def _end(self, outgoing: Outgoing, meta: dict[str, Any], part: Part) -> None:
        """The last frame. Unlike the others it is said again after a lost connection."""
        request = outgoing.request
        outgoing.over = True
        del self._outgoing[request.reply, request.id]
        if not outgoing.holds_slot:
            self._leaving_bytes -= len(outgoing.answer.body)
        self._finished(outgoing.holds_slot)
        said = {"id": request.id, "q": outgoing.sequence, "n": self._in_flight(), **meta}
        if not outgoing.sequence:
            said.update(_held_ms(request))
        until_ms = time.monotonic() * 1e3 + LAST_FRAME_MS
        self._bus.answer(request.reply, frames.encode(said, part), until_ms)

    # -- requests -----------------------------------------------------------------------------

    def receive(self, request: Request, size: int) -> None:
        """A request that was taken and whose body of ``size`` bytes is still to come."""
        incoming = Incoming(request, size)
        self._incoming[request.reply, request.id] = incoming
        self._allow_more(incoming)

    def take(self, key: Key, sequence: object, part: bytes) -> None:
        """The next part of a body."""
        incoming = self._incoming.get(key)
        if incoming is None:
            return
        received = incoming.body.write(part) and incoming.body.tell()
        if sequence != incoming.sequence or received > incoming.size:
            self._give_up(key)  # torn: the router tries again, or its deadline passes
            return
        incoming.sequence += 1
        if received < incoming.size:
            self._allow_more(incoming)
            return
        del self._incoming[key]
        incoming.request.body = incoming.body.getvalue()  # no copy: the buffer is given away
        self._submit(incoming.request)

    def give_up_expired(self, now_ms: float) -> None:
        """Bodies that have not come in time never will, and answers that nobody asks for."""
        for outgoing in list(self._outgoing.values()):
            if outgoing.sent >= outgoing.allowed and outgoing.give_up_ms <= now_ms:
                self._break_off(outgoing)
        for key, incoming in list(self._incoming.items()):
            if incoming.request.deadline_ms <= now_ms:
                self._give_up(key)

    def _allow_more(self, incoming: Incoming) -> None:
        """Keeps a window open, and says so when half of it is used."""
        received = incoming.body.tell()
        if incoming.allowed - received > core.BODY_WINDOW_BYTES // 2:
            return
        incoming.allowed = received + core.BODY_WINDOW_BYTES
        request = incoming.request
        meta = {"id": request.id, "c": core.TAKE, "to": incoming.allowed}
        self._bus.publish(request.reply, frames.encode(meta, b""))

    def _give_up(self, key: Key) -> None:
        request = self._incoming.pop(key).request
        self._finished(True)
        meta = {"id": request.id, "k": core.EXPIRED, "n": self._in_flight()}
        self._bus.answer(request.reply, frames.encode(meta, b""), request.deadline_ms)


def _head(answer: Answer) -> dict[str, Any]:
    return {"s": answer.status, "h": answer.headers}


def _run_ms(source: Union[Stream, Whole]) -> dict[str, Any]:
    return {"ms": round(source.run_ms, 3)} if source.run_ms >= 0 else {}


def _held_ms(request: Request) -> dict[str, Any]:
    if not request.came_ms:
        return {}
    return {"held": round(time.monotonic() * 1e3 - request.came_ms, 3)}
