"""Where run() runs: on the process's main thread, away from the event loop that owns the bus.

So a model that computes for minutes holds up no heartbeat, deadline or drain, and the script has
what it would have in a program of its own: the main thread, with signals and alarms.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Optional, Protocol

from headgate_worker import output
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import Call, Scorer, ScoringTimeoutError, Streamed
from headgate_worker.web import joined

# An answer, or None for a request whose deadline passed before its turn.
Deliver = Callable[[Request, Optional[Answer]], None]


class Executor(Protocol):
    """Runs requests one after the other, or side by side if the script can."""

    def submit(self, request: Request) -> None:
        """From any thread."""

    def serve(self) -> None:
        """On the main thread; returns after ``stop``."""

    def withdraw(self) -> list[Request]:
        """From any thread: the requests that were not started, and never will be."""

    def overdue_ms(self, now_ms: float) -> float:
        """From any thread: how long the model has been in a request whose deadline has passed."""

    def stop(self) -> None:
        """From any thread."""


def executor(
    scorer: Scorer, deliver: Deliver, loop: Optional[asyncio.AbstractEventLoop]
) -> Executor:
    """The right one for the script; one with coroutines comes with their ``loop``."""
    if loop is not None:
        return AsyncExecutor(scorer, deliver, loop)
    return SyncExecutor(scorer, deliver)


class SyncExecutor:
    """One request at a time, fed by one queue."""

    def __init__(self, scorer: Scorer, deliver: Deliver) -> None:
        self._scorer = scorer
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Optional[Request]] = queue.SimpleQueue()
        self._timeout_s = scorer.timeout_ms / 1000
        self._armed = False
        self._running: Optional[Request] = None

    def submit(self, request: Request) -> None:
        self._queue.put(request)

    def overdue_ms(self, now_ms: float) -> float:
        request = self._running
        return max(0.0, now_ms - request.deadline_ms) if request is not None else 0.0

    def withdraw(self) -> list[Request]:
        left: list[Request] = []
        with suppress(queue.Empty):
            while (request := self._queue.get_nowait()) is not None:
                left.append(request)
        return left

    def stop(self) -> None:
        self._queue.put(None)

    def serve(self) -> None:
        signal.signal(signal.SIGALRM, self._on_alarm)
        while (request := self._queue.get()) is not None:
            if request.deadline_ms <= time.monotonic() * 1e3:
                self._deliver(request, None)
            else:
                self._running = request
                answer = self._score(request)
                self._running = None
                self._deliver(request, answer)

    def _score(self, request: Request) -> Answer:
        call = self._scorer.begin(request)
        if isinstance(call, Answer):
            return call
        tag = output.REQUEST.set(call.tag)
        try:
            with call.context:
                return self._run(call)
        finally:
            output.end_request()
            output.REQUEST.reset(tag)

    def _run(self, call: Call) -> Answer:
        started = time.perf_counter()
        try:
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, self._timeout_s)
                result = self._scorer.script.run(**call.inputs)
                if inspect.isgenerator(result):
                    result = Streamed(joined(result))
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:
            return self._scorer.broken(call, error, _ms_since(started))
        return self._scorer.complete(call, result, _ms_since(started))

    def _on_alarm(self, number: int, frame: Optional[FrameType]) -> None:
        if self._armed:
            self._armed = False
            raise ScoringTimeoutError


class AsyncExecutor:
    """For a script with ``async def run``: as many at once as the instance takes."""

    def __init__(self, scorer: Scorer, deliver: Deliver, loop: asyncio.AbstractEventLoop) -> None:
        self._scorer = scorer
        self._deliver = deliver
        self._loop = loop
        self._tasks: dict[asyncio.Task[None], Request] = {}

    def submit(self, request: Request) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            self._loop.call_soon_threadsafe(self._start, request)

    def withdraw(self) -> list[Request]:
        return []  # each was started when it came

    def overdue_ms(self, now_ms: float) -> float:
        deadlines = [request.deadline_ms for request in self._tasks.copy().values()]
        return max(0.0, now_ms - min(deadlines, default=now_ms))

    def stop(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

    def serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _start(self, request: Request) -> None:
        task = self._loop.create_task(self._score(request))
        self._tasks[task] = request
        task.add_done_callback(self._tasks.pop)

    async def _score(self, request: Request) -> None:
        if request.deadline_ms <= time.monotonic() * 1e3:
            self._deliver(request, None)
            return
        call = self._scorer.begin(request)
        if isinstance(call, Call):
            output.REQUEST.set(call.tag)  # of this task only
            with call.context:
                self._deliver(request, await self._run(call))
        else:
            self._deliver(request, call)

    async def _run(self, call: Call) -> Answer:
        started = time.perf_counter()
        try:
            timeout_s = self._scorer.timeout_ms / 1000
            result = await asyncio.wait_for(self._result(call), timeout_s)
        except asyncio.TimeoutError as error:
            timed_out = _ms_since(started) >= self._scorer.timeout_ms
            return self._scorer.broken(
                call, ScoringTimeoutError() if timed_out else error, _ms_since(started)
            )
        except BaseException as error:
            return self._scorer.broken(call, error, _ms_since(started))
        return self._scorer.complete(call, result, _ms_since(started))

    async def _result(self, call: Call) -> Any:
        result = self._scorer.script.run(**call.inputs)
        if inspect.isasyncgen(result):
            return Streamed(joined([part async for part in result]))
        return await result if inspect.isawaitable(result) else result


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
