"""The open loop: requests leave when their time has come, whatever became of those before.

Arrivals are drawn beforehand (Poisson), and a latency counts from the moment at which the request
was to leave, also if no connection was free then or the generator was late: so the waiting of
those who came while the server was busy is not left out (no "coordinated omission").
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import httptools

from loadtests.workloads import Target

CONNECTIONS_MAX = 512
ANSWER_TIMEOUT_S = 30.0
NO_ANSWER = 0


def poisson(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Moments of arrival from 0 on, in seconds."""
    dice, at, moments = random.Random(seed), 0.0, []
    while (at := at + dice.expovariate(rate_per_s)) < seconds:
        moments.append(at)
    return moments


class Shots:
    """Every request of a run: when it was to leave and when it ended (seconds from the start of
    the run), its status (0: no answer), and its number in the order of arrivals."""

    def __init__(self) -> None:
        self.meant_s = array("d")
        self.ended_s = array("d")
        self.statuses = array("h")
        self.numbers = array("l")
        self.elapsed_s = 0.0

    def __len__(self) -> int:
        return len(self.meant_s)

    def note(self, number: int, meant_s: float, ended_s: float, status: int) -> None:
        self.numbers.append(number)
        self.meant_s.append(meant_s)
        self.ended_s.append(ended_s)
        self.statuses.append(status)

    @property
    def errors(self) -> int:
        return sum(status != 200 for status in self.statuses)

    def latencies_ms(
        self, *, status: int | None = None, since: float = 0.0, until: float = float("inf")
    ) -> list[float]:
        """Sorted; of the requests with that status (None: all) that were to leave in a span."""
        return sorted(
            1e3 * (ended - meant)
            for meant, ended, got in zip(self.meant_s, self.ended_s, self.statuses, strict=True)
            if (status is None or got == status) and since <= meant < until
        )

    def quantile_ms(self, q: float, **which: float | int | None) -> float:
        return quantile(self.latencies_ms(**which), q)  # type: ignore[arg-type]


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values (nearest rank); nan of none."""
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


async def run(
    target: Target,
    arrivals: Sequence[float],
    messages: Sequence[bytes] = (),
    *,
    connections: int = CONNECTIONS_MAX,
) -> Shots:
    """Send one request per arrival; ``messages`` are whole requests, one each (none: the
    target's). Connections are made when they are needed: there are servers that would wait for
    what an idle one says. Requests wait here when all are in use, and that counts."""
    requests = messages or [target.message()] * len(arrivals)
    pool = _Pool(target, connections)
    with _quiet_collector():
        await pool.drive(arrivals, requests)
    pool.close()
    return pool.shots


async def closed(target: Target, connections: int, seconds: float, message: bytes = b"") -> Shots:
    """Connections in a closed loop, each with the next request when it has its answer."""
    pool = _Pool(target, connections)
    await pool.warm(connections)
    with _quiet_collector():
        await pool.circulate(message or target.message(), seconds)
    pool.close()
    return pool.shots


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """The generator's own garbage collections would show as latencies."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class _Pool:
    """Connections that take turns; the one that was used last is used next."""

    def __init__(self, target: Target, size: int) -> None:
        self.shots = Shots()
        self._target = target
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._made = 0
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._waiting: deque[tuple[int, float, bytes]] = deque()
        self._left = 0
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._begun = 0.0
        self._repeat: tuple[bytes, float] | None = None  # closed loop: request, its end
        self._tasks: set[asyncio.Task[None]] = set()

    async def warm(self, connections: int) -> None:
        await asyncio.gather(*(self._connect() for _ in range(connections)))

    def close(self) -> None:
        for connection in list(self._all):
            connection.transport.abort()

    async def drive(self, arrivals: Sequence[float], requests: Sequence[bytes]) -> None:
        if not arrivals:
            return
        self._left = len(arrivals)
        self._begun = time.perf_counter()
        alarm, position = _Alarm(), 0

        def due() -> None:
            nonlocal position
            now = time.perf_counter() - self._begun
            while position < len(arrivals) and arrivals[position] <= now:
                self._send(position, arrivals[position], requests[position])
                position += 1
            if position < len(arrivals):
                alarm.set(arrivals[position] - (time.perf_counter() - self._begun))

        alarm.start(due)
        due()
        try:
            await asyncio.wait((self._over,), timeout=arrivals[-1] + ANSWER_TIMEOUT_S)
        finally:
            alarm.stop()
        self._give_up()

    async def circulate(self, request: bytes, seconds: float) -> None:
        self._begun = time.perf_counter()
        self._repeat = (request, seconds)
        self._left = len(self._idle)
        for _ in range(self._left):
            self._send(0, 0.0, request)
        await asyncio.wait((self._over,), timeout=seconds + ANSWER_TIMEOUT_S)
        self._give_up()

    def _give_up(self) -> None:
        """What has no answer by now never gets one."""
        self.shots.elapsed_s = now = time.perf_counter() - self._begun
        for connection in self._all:
            if connection.busy:
                connection.busy = False
                self.shots.note(connection.number, connection.meant_s, now, NO_ANSWER)
        for number, meant_s, _ in self._waiting:
            self.shots.note(number, meant_s, now, NO_ANSWER)
        self._waiting.clear()

    def _send(self, number: int, meant_s: float, request: bytes) -> None:
        if self._idle:
            self._idle.pop().send(number, meant_s, request)
            return
        self._waiting.append((number, meant_s, request))
        if self._made < self._size:
            self._in_background(self._connect())

    def _in_background(self, work) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        self._made += 1
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self._target.host, self._target.port
            )
        except OSError:
            self._made -= 1
            if self._waiting:
                self.ended(*self._waiting.popleft()[:2], NO_ANSWER)
            return
        self._all.add(connection)
        self.free(connection)

    # What connections say

    def ended(self, number: int, meant_s: float, status: int) -> None:
        now = time.perf_counter() - self._begun
        self.shots.note(number, meant_s, now, status)
        if self._repeat and now < self._repeat[1]:
            self._send(number + 1, now, self._repeat[0])
            return
        self._left -= 1
        if not self._left and not self._over.done():
            self._over.set_result(None)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._made -= 1
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._in_background(self._connect())


class _Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self.busy = False
        self.number = 0
        self.meant_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, they only behave alike.
        self.transport = cast("asyncio.Transport", transport)

    def send(self, number: int, meant_s: float, request: bytes) -> None:
        self.number, self.meant_s, self.busy = number, meant_s, True
        self._parser = httptools.HttpResponseParser(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if not self.busy:
            return
        # Told first: a connection that is free may get its next request at once.
        self.busy = False
        self._pool.ended(self.number, self.meant_s, self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._pool.free(self)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        was_busy, self.busy = self.busy, False
        self._pool.lost(self)
        if was_busy:
            self._pool.ended(self.number, self.meant_s, NO_ANSWER)


class _Alarm:
    """A timer of the kernel with the precision of its clock: event loops round to milliseconds."""

    _MONOTONIC, _NONBLOCK = 1, 0o4000

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.timerfd_create(self._MONOTONIC, self._NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()

    def start(self, callback: Callable[[], None]) -> None:
        def rung() -> None:
            try:
                os.read(self._file, 8)
            except BlockingIOError:
                return
            callback()

        self._loop.add_reader(self._file, rung)

    def set(self, seconds: float) -> None:
        """Ring once, after so long; at once when it is too late already."""
        whole, part = divmod(max(1, int(1e9 * seconds)), 1_000_000_000)
        # struct itimerspec: interval (never again), then the first time.
        spec = (ctypes.c_long * 4)(0, 0, whole, part)
        self._libc.timerfd_settime(self._file, 0, spec, None)

    def stop(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)
