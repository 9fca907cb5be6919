"""Requests for the model's thread, which fetches them off the wire itself while it is free.

Two threads that hand each request to one another pay for it with two wake-ups and a fight over the
interpreter. So the model's thread waits for the sockets themselves, and runs what it reads. While
it is busy with a request the bus's thread looks at the same sockets now and then (``glance``), for
what cannot wait for a model: pings, refusals, clients that leave.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Optional, Protocol

from headgate_worker.request import Request

# So often the bus's thread looks while the model is busy; no answer waits longer for others.
GLANCE_S = 0.002
GLANCES_IDLE = 25  # so many find the model waiting before there are no more


class Source(Protocol):
    """A connection whose bytes whoever has the inbox's lock may read."""

    def lend(self) -> int:
        """On the loop, which reads it no more: a descriptor that is the inbox's from now on."""

    def read(self, descriptor: int) -> bool:
        """Takes what is there, never waiting. False when it has ended."""


class Inbox:
    """A queue with the sockets that fill it. ``None`` in it is the end.

    ``before_waiting`` is called when it is empty, by whoever wants more.
    """

    def __init__(self, before_waiting: Callable[[], None]) -> None:
        self._before_waiting = before_waiting
        self._requests: deque[Optional[Request]] = deque()
        self._sources: dict[int, Source] = {}
        self._changes: deque[tuple[Source, int]] = deque()  # a descriptor, or -1: it goes
        self._reading = threading.Lock()
        self._wakes, self._waker = os.pipe()
        for end in (self._wakes, self._waker):
            os.set_blocking(end, False)
        self._poll = select.poll()
        self._poll.register(self._wakes, select.POLLIN)
        # Whether the model's thread reads, or is about to: then nobody else has to.
        self.waits = False
        self.watched = True  # whether somebody glances; set by whoever does
        self.on_busy: Callable[[], None] = lambda: None  # else called from the model's thread

    # -- from any thread ----------------------------------------------------------------------

    def put(self, request: Optional[Request]) -> None:
        self._requests.append(request)
        self._wake()

    def withdraw(self) -> list[Request]:
        """What nobody has begun, up to the end."""
        left: list[Request] = []
        with suppress(IndexError):
            while (request := self._requests.popleft()) is not None:
                left.append(request)
        return left

    def attach(self, source: Source) -> None:
        """On the loop: from now on it is read here."""
        self._changes.append((source, source.lend()))
        self._wake()

    def detach(self, source: Source) -> None:
        """It has ended."""
        self._changes.append((source, -1))
        self._wake()

    def glance(self) -> None:
        """Read what has come, unless the model's thread does."""
        if self._reading.acquire(blocking=False):
            try:
                self._read(0)
            finally:
                self._reading.release()

    # -- the model's thread -------------------------------------------------------------------

    def get(self, until_s: Optional[float] = None) -> Optional[Request]:
        """The next request, waited for until then (monotonic), or as long as it takes.

        Raises queue.Empty. The last fraction of a millisecond is not waited for.
        """
        while not self._requests:
            self._before_waiting()
            left_ms = -1
            if until_s is not None:
                left_ms = max(0, int(1e3 * (until_s - time.monotonic())))
            with self._reading:
                self.waits = True
                self._read(0 if self._requests else left_ms)
            if not self.watched:
                self.on_busy()
            if left_ms == 0 and not self._requests:
                raise queue.Empty
        try:
            return self._requests.popleft()
        except IndexError:  # it has been withdrawn meanwhile
            return self.get(until_s)

    # -- parts of it --------------------------------------------------------------------------

    def _wake(self) -> None:
        if self.waits:
            with suppress(BlockingIOError):  # it is full, which wakes as well
                os.write(self._waker, b"\0")

    def _read(self, wait_ms: int) -> None:
        """Wait for something on any of the sockets, and take it; with the lock only."""
        self._apply_changes()
        found = self._poll.poll(wait_ms)
        self.waits = False
        for descriptor, _ in found:
            source = self._sources.get(descriptor)
            if source is None:
                with suppress(BlockingIOError):
                    os.read(self._wakes, 64)
            elif not source.read(descriptor):
                self._drop(descriptor)

    def _apply_changes(self) -> None:
        while self._changes:
            source, descriptor = self._changes.popleft()
            if descriptor >= 0:
                self._sources[descriptor] = source
                self._poll.register(descriptor, select.POLLIN)
            else:
                for descriptor in [each for each, held in self._sources.items() if held is source]:
                    self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        del self._sources[descriptor]
        self._poll.unregister(descriptor)
        os.close(descriptor)


class Watch:
    """The bus's loop glances at an inbox while the model is busy; ``look`` is called each time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, inbox: Inbox, look: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._look = look
        self._idle = 0  # glances in a row that found the model waiting
        inbox.on_busy = self._begin
        inbox.watched = False

    def _begin(self) -> None:
        self._inbox.watched = True
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._glance)

    def _glance(self) -> None:
        inbox = self._inbox
        self._look()
        inbox.glance()
        self._idle = self._idle + 1 if inbox.waits else 0
        if self._idle >= GLANCES_IDLE:
            self._idle = 0
            inbox.watched = False
            if inbox.waits:
                return
            inbox.watched = True  # it has just got something, and may think that we look
        self._loop.call_later(GLANCE_S, self._glance)
