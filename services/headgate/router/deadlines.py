"""Deadlines of requests, without a timer for each: a wheel of buckets of ten milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.router.requests import Request
from headgate.runtime.clock import Clock

TICK_S = 0.01


class Deadlines:
    """Calls back for each request whose time has come, at most some ticks late, never early.

    Setting and removing are a dictionary's; the wheel turns only while something is on it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, expire: Callable[[Request], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._expire = expire
        self._buckets: dict[int, dict[Request, None]] = {}
        self._next = 0  # the first tick that is still to come
        self._timer: asyncio.TimerHandle | None = None

    def set(self, request: Request, at: float) -> None:
        """Call back for the request at that time of the monotonic clock, and at no other."""
        self.remove(request)
        if self._timer is None:
            self._next = int(self._clock.monotonic() / TICK_S) + 1
            self._timer = self._loop.call_later(TICK_S, self._turn)
        tick = max(self._next, int(at / TICK_S) + 1)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
        bucket[request] = None
        request.due = bucket

    @staticmethod
    def remove(request: Request) -> None:
        """Also of a request that is not on the wheel."""
        if request.due is not None:
            del request.due[request]
            request.due = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._turn)  # whatever happens below
        now = int(self._clock.monotonic() / TICK_S)
        while self._next <= now:
            due = self._buckets.pop(self._next, None)
            self._next += 1
            while due:
                request = next(iter(due))
                self.remove(request)
                self._expire(request)
        if not self._buckets:
            self._timer.cancel()
            self._timer = None
