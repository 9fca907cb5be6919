"""Where run() runs: on the process's main thread, away from the event loop that owns the bus.

So a model that computes for minutes holds up no heartbeat, deadline or drain, and the script has
what it would have in a program of its own: the main thread, with signals and alarms.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import FrameType
from typing import Any, Optional, Protocol

from headgate_worker import generated, output
from headgate_worker.failure import ScoringTimeoutError
from headgate_worker.generated import Generated
from headgate_worker.inbox import Inbox
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import Call, Scorer

# An answer, or None for a request that nobody waits for any more. One with a stream is delivered
# when it begins; the stream says when it has ended.
Deliver = Callable[[Request, Optional[Answer]], None]


class Executor(Protocol):
    """Runs requests one after the other, or side by side if the script can."""

    @property
    def interruptible(self) -> bool:
        """Whether ``leave`` is of use before an answer has begun."""

    @property
    def inbox(self) -> Optional[Inbox]:
        """Where its requests wait, if its own thread can fetch them off the bus."""

    @property
    def room(self) -> int:
        """How many requests it should have in hand if the deployment does not say: 1 is usual."""

    def figures(self) -> dict[str, int]:
        """What heartbeats tell of it, under their fields' names."""

    def submit(self, request: Request) -> None:
        """From any thread."""

    def serve(self) -> None:
        """On the main thread; returns after ``stop``."""

    def withdraw(self) -> list[Request]:
        """From any thread: the requests that were not started, and never will be."""

    def leave(self, request: Request) -> None:
        """From any thread: nobody waits for this one any more. It is marked so already."""

    def overdue_ms(self, now_ms: float) -> float:
        """From any thread: how long the model has been in a request whose deadline has passed."""

    def stop(self) -> None:
        """From any thread."""


_NEVER = float("inf")
BRIEF_MS = 0.5  # answers of calls that take longer wait for no others


class SyncExecutor:
    """One request at a time, from one inbox. What it delivers leaves with the next ``flush``."""

    room = 1

    def __init__(self, scorer: Scorer, deliver: Deliver, flush: Callable[[], None]) -> None:
        self.interruptible = inspect.isgeneratorfunction(inspect.unwrap(scorer.script.run))
        self._scorer = scorer
        self._deliver = deliver
        self._flush = flush
        self.inbox = Inbox(flush)
        self._alarm = _Alarm(scorer.timeout_ms / 1000)
        self._running: Optional[Request] = None

    def submit(self, request: Request) -> None:
        self.inbox.put(request)

    def figures(self) -> dict[str, int]:
        return {}

    def overdue_ms(self, now_ms: float) -> float:
        request = self._running
        return max(0.0, now_ms - request.deadline_ms) if request is not None else 0.0

    def leave(self, request: Request) -> None:
        """Whoever is asked next looks at the mark: plain code cannot be interrupted."""

    def withdraw(self) -> list[Request]:
        return self.inbox.withdraw()

    def stop(self) -> None:
        self.inbox.put(None)

    def serve(self) -> None:
        self._alarm.install()
        while (request := self.inbox.get()) is not None:
            if request.left or request.deadline_ms <= time.monotonic() * 1e3:
                self._deliver(request, None)
            else:
                self._running = request
                answer = self._score(request)
                self._running = None
                if answer is not None:
                    self._deliver(request, answer)
                    if answer.run_ms > BRIEF_MS:
                        self._flush()

    def _score(self, request: Request) -> Optional[Answer]:
        """The answer; None when it was delivered in parts."""
        call = self._scorer.begin(request)
        return call if isinstance(call, Answer) else self._answer(call)

    def _answer(self, call: Call) -> Optional[Answer]:
        before = output.REQUEST.set(call.ids.request)
        try:
            if call.context is None:
                return self._run(call)
            with call.context:
                return self._run(call)
        finally:
            output.end_request()
            output.REQUEST.reset(before)

    def _run(self, call: Call) -> Optional[Answer]:
        started = time.perf_counter()
        parts: Optional[Generated] = None
        try:
            with self._alarm:
                result = call.function(**call.inputs)
                parts = generated.of(result)
                if parts is not None:
                    parts.begin(call.request)
        except BaseException as error:
            return self._scorer.broken(call, error, ms_since(started))
        if parts is None:
            return self._scorer.complete(call, result, ms_since(started))
        self._pour(call, parts, started)
        return None

    def _pour(self, call: Call, parts: Generated, started: float) -> None:
        """Delivers an answer and then its parts, as fast as they are taken."""
        answer = self._scorer.complete(call, parts, ms_since(started))
        stream = answer.stream
        if stream is None:  # a response that is none
            parts.close()
            self._deliver(call.request, answer)
            return
        call.request.deadline_ms = _NEVER
        error = ""
        try:
            self._deliver(call.request, answer)
            parts.pour(stream, self._alarm)
        except BaseException as reason:
            error = self._scorer.broken_off(call, reason)
        try:
            with self._alarm:
                parts.close()
        except BaseException as reason:
            error = error or self._scorer.broken_off(call, reason)
        stream.close(ms_since(started), error)


class _Alarm:
    """What may not take longer than that: ScoringTimeoutError in the middle of it.

    One timer of the kernel's serves many calls: it is set again when it fires, for what is left to
    the call that is under way by then. Two system calls for each would cost small models a tenth.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: Optional[float] = None  # when the call under way began
        self._fires_at = 0.0

    def install(self) -> None:
        signal.signal(signal.SIGALRM, self._on_alarm)

    def __enter__(self) -> None:
        self._since = now = time.monotonic()
        if now >= self._fires_at:  # also if the script has used the timer for itself
            self._set(now, self._timeout_s)

    def __exit__(self, *error: object) -> None:
        self._since = None

    def _set(self, now: float, wait_s: float) -> None:
        self._fires_at = now + wait_s
        signal.setitimer(signal.ITIMER_REAL, wait_s)

    def _on_alarm(self, number: int, frame: Optional[FrameType]) -> None:
        since, now = self._since, time.monotonic()
        self._fires_at = 0.0
        if since is None:
            return
        left_s = since + self._timeout_s - now
        if left_s > 0:
            self._set(now, left_s)
            return
        self._since = None
        raise ScoringTimeoutError


class AsyncExecutor:
    """For a script with ``async def run``: as many at once as the instance takes."""

    interruptible = True
    inbox = None
    room = 1

    def __init__(self, scorer: Scorer, deliver: Deliver, loop: asyncio.AbstractEventLoop) -> None:
        self._scorer = scorer
        self._deliver = deliver
        self._loop = loop
        self._tasks: dict[asyncio.Task[None], Request] = {}

    def submit(self, request: Request) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            self._loop.call_soon_threadsafe(self._start, request)

    def leave(self, request: Request) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel, request)

    def figures(self) -> dict[str, int]:
        return {}

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

    def _cancel(self, request: Request) -> None:
        for task, running in self._tasks.items():
            if running is request:
                task.cancel()

    async def _score(self, request: Request) -> None:
        if request.left or request.deadline_ms <= time.monotonic() * 1e3:
            self._deliver(request, None)
            return
        call = self._scorer.begin(request)
        if isinstance(call, Call):
            output.REQUEST.set(call.ids.request)  # of this task only
            with call.context or nullcontext():
                await self._run(call)
        else:
            self._deliver(request, call)

    async def _run(self, call: Call) -> None:
        started = time.perf_counter()
        timeout_s = self._scorer.timeout_ms / 1000
        try:
            result = await asyncio.wait_for(self._result(call), timeout_s)
        except asyncio.TimeoutError as error:
            timed_out = ms_since(started) >= self._scorer.timeout_ms
            reason = ScoringTimeoutError() if timed_out else error
            self._deliver(call.request, self._scorer.broken(call, reason, ms_since(started)))
        except BaseException as failure:
            left = call.request.left and isinstance(failure, asyncio.CancelledError)
            answer = None if left else self._scorer.broken(call, failure, ms_since(started))
            self._deliver(call.request, answer)
        else:
            answer = self._scorer.complete(call, result, ms_since(started))
            if answer.stream is None:
                self._deliver(call.request, answer)
            else:
                await self._pour(call, result, answer, started)

    async def _result(self, call: Call) -> Any:
        result = call.function(**call.inputs)
        if inspect.isawaitable(result):
            result = await result
        parts = generated.of(result)
        if parts is None:
            return result
        await parts.begin_async(call.request)
        return parts

    async def _pour(self, call: Call, parts: Generated, answer: Answer, started: float) -> None:
        assert answer.stream is not None
        call.request.deadline_ms = _NEVER
        error = ""
        try:
            self._deliver(call.request, answer)
            await parts.pour_async(answer.stream, self._scorer.timeout_ms / 1000)
        except BaseException as reason:
            error = self._scorer.broken_off(call, reason)
        try:
            await parts.close_async()
        except BaseException as reason:
            error = error or self._scorer.broken_off(call, reason)
        answer.stream.close(ms_since(started), error)


def ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
