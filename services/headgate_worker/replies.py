"""Answers on their way to routers, from whichever thread made them.

A small answer leaves from the thread of its model: to wake the thread of the bus for it would cost
more than many a model does. Those to one router share a message, up to a few: the router begins
with the first while the model is at the next.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Optional

from headgate_worker import core, frames
from headgate_worker.bus import Bus
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import too_large

JOINED_MAX = 16  # answers of one message
JOINED_BYTES_MAX = 256 * 1024


class _Gathered:
    """Answers to one router that leave together, and until when the last of them is wanted."""

    __slots__ = ("deadline_ms", "frames")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.deadline_ms = 0.0


class Replies:
    """All answers of one process, and the count of what it has in hand.

    ``say`` sends a message from any thread: subject, payload, and until when it is wanted.
    ``in_parts`` is called on the loop with an answer that no single message can carry.
    """

    def __init__(
        self,
        bus: Bus,
        say: Callable[[str, bytes, float], None],
        loop: asyncio.AbstractEventLoop,
        in_parts: Callable[[Request, Answer], None],
    ) -> None:
        self.taken = 0  # requests
        self.finished = 0
        self._ended = 0
        self._bus = bus
        self._say = say
        self._loop = loop
        self._in_parts = in_parts
        self._lock = threading.Lock()
        self._gathered: dict[str, _Gathered] = {}
        self._bytes = 0
        self._unsaid = 0  # gathered, or on its way to the bus
        self._waking = False
        self.on_idle: Callable[[], None] = lambda: None  # on the loop, while it drains
        self.draining = False

    @property
    def in_flight(self) -> int:
        """How many requests have been taken and not ended."""
        return self.taken - self._ended

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand, and every answer has been said."""
        return not (self.in_flight or self._unsaid)

    # -- from any thread ----------------------------------------------------------------------

    def take(self, count: int) -> None:
        """So many more requests are in hand."""
        with self._lock:
            self.taken += count

    def deliver(self, request: Request, answer: Optional[Answer]) -> None:
        """An answer, None for a request that nobody waits for; one wake-up serves many."""
        self.gather(request, answer)
        if self._gathered and not self._waking:
            self._waking = True
            self._on_loop(self._wake)

    def gather(self, request: Request, answer: Optional[Answer]) -> None:
        """The same, but it leaves with the next ``flush``, or when there are several."""
        if answer is not None and answer.stream is not None:
            self._on_loop(self._in_parts, request, answer)
            return
        frame = self._frame(request, answer)
        if frame:
            self._add(request, frame, ended=1, finished=answer is not None)
        elif answer is not None:
            self._on_loop(self._in_parts, request, answer)
            self.end(finished=True)  # after that: a drain waits for what is in hand or on its way

    def flush(self) -> None:
        """Say what was gathered."""
        if not self._gathered:
            return
        with self._lock:
            gathered, self._gathered = self._gathered, {}
            self._bytes = 0
        said = 0
        for reply, together in gathered.items():
            said += len(together.frames)
            self._say(reply, b"".join(together.frames), together.deadline_ms)
        with self._lock:
            self._unsaid -= said
        self._look_whether_idle()

    def end(self, *, finished: bool) -> None:
        """A request is not in hand any more; ``finished``: the model has answered it."""
        with self._lock:
            self._ended += 1
            self.finished += finished
        self._look_whether_idle()

    def refuse(self, request: Request, why: str) -> None:
        """Say with the next ``flush`` that a request is not begun. It was not counted as taken."""
        meta = {"id": request.id, "k": why, "n": self.in_flight}
        self._add(request, frames.encode(meta, b""))

    # -- parts of it --------------------------------------------------------------------------

    def _wake(self) -> None:
        self._waking = False
        self.flush()

    def _look_whether_idle(self) -> None:
        if self.draining and self.is_idle:
            self._on_loop(self.on_idle)

    def _add(
        self, request: Request, frame: bytes, *, ended: int = 0, finished: bool = False
    ) -> None:
        """Gather a frame. It frees its slot now: the router counts it free when it hears of it."""
        reply = request.reply
        if self._bytes + len(frame) > JOINED_BYTES_MAX:
            self.flush()
        with self._lock:
            together = self._gathered.get(reply)
            if together is None:
                together = self._gathered[reply] = _Gathered()
            together.frames.append(frame)
            together.deadline_ms = max(together.deadline_ms, request.deadline_ms)
            self._bytes += len(frame)
            self._unsaid += 1
            self._ended += ended
            self.finished += finished
        if len(together.frames) >= JOINED_MAX:
            self.flush()

    def _frame(self, request: Request, answer: Optional[Answer]) -> bytes:
        """The answer as one frame; empty when it has to leave in parts because it is too large."""
        left = self.in_flight - 1
        if answer is None:
            return frames.encode({"id": request.id, "n": left, "k": core.EXPIRED}, b"")
        frame = _whole(request, answer, left)
        if len(frame) <= self._bus.max_payload:
            return frame
        return b"" if request.window else _whole(request, too_large(len(answer.body)), left)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # it is closed: the process ends
            self._loop.call_soon_threadsafe(call, *arguments)


def _whole(request: Request, answer: Answer, in_flight: int) -> bytes:
    number = request.id
    if answer.is_ordinary and type(number) is int and not request.came_ms:
        return frames.encode_ordinary(number, in_flight, answer.run_ms, answer.body)
    held_ms = time.monotonic() * 1e3 - request.came_ms if request.came_ms else 0.0
    return frames.encode_answer(
        number,
        in_flight,
        answer.status,
        answer.headers,
        answer.run_ms,
        answer.body,
        held_ms,
    )
