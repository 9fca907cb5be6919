"""Keeps the processes of one Headgate: starts them in order, restarts them, ends all of them.

Nothing survives: children die with us whatever happens to us, and whatever their children leave
behind becomes ours (we are the subreaper) and is ended before we go.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate.runtime import procs
from headgate.runtime.files import private_dir
from headgate.runtime.log import Log
from headgate_contracts.errors import ErrorCode, HeadgateError

LOG_BYTES_MAX = 10 * 1024 * 1024
_TEND_S = 1.0
_LAST_WORDS_BYTES = 2_000
_LAST_WORDS_LINES = 5


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a child that ended is started again: at once, then ever later, and not for ever."""

    first_delay_s: float = 0.1
    delay_s_max: float = 5.0
    budget: int = 20
    window_s: float = 600.0
    stable_s: float = 30.0

    def delay_s(self, restarts: Sequence[float], now: float, ran_s: float) -> float | None:
        """How long to wait before the next start; None when the budget is spent.

        ``restarts`` are the times of earlier restarts, ``ran_s`` how long the child ran this time:
        one that had been stable is treated as if it had failed for the first time.
        """
        recent = [at for at in restarts if now - at < self.window_s]
        if len(recent) >= self.budget:
            return None
        streak = [at for at in recent if now - at < self.stable_s + self.delay_s_max]
        if ran_s >= self.stable_s or not streak:
            return 0.0
        return float(min(self.delay_s_max, self.first_delay_s * 2 ** (len(streak) - 1)))


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep. ``ready`` returns when it works and raises HeadgateError if never.

    A ``foundation`` is what the others stand on (the bus): it ends after everything else, adopted
    processes included. ``output`` takes stdout and stderr (default ``<logs>/<name>.log``). It
    inherits our descriptors ``fds``.
    """

    name: str
    argv: Sequence[str | Path]
    ready: Callable[[], Awaitable[None]] | None = None
    ready_timeout_s: float = 60.0
    grace_s: float = 10.0
    foundation: bool = False
    output: Path | None = None
    env: Mapping[str, str] | None = None
    fds: Sequence[int] = ()


@dataclass(slots=True)
class _Kept:
    """A child and what became of it."""

    child: Child
    output: Path
    process: procs.Process | None = None
    started_at: float = 0.0
    restarts: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


class Supervisor:
    """Runs children until it is told to stop, or until one of them cannot be kept running."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        logs: Path,
        policy: RestartPolicy | None = None,
        orphan_grace_s: float = 35.0,
        on_start: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_start`` is called after each start and restart of a child, when it is ready.

        ``on_stop`` is called before the first child is ended.
        """
        private_dir(logs)
        self._kept = [_Kept(c, c.output or logs / f"{c.name}.log") for c in children]
        self._policy = policy or RestartPolicy()
        self._orphan_grace_s = orphan_grace_s
        self._on_start = on_start
        self._on_stop = on_stop
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._failure: HeadgateError | None = None
        self._log = Log("supervisor")

    def pids(self) -> dict[str, int]:
        """The children that run now."""
        return {
            kept.child.name: kept.process.pid
            for kept in self._kept
            if kept.process is not None and kept.process.returncode is None
        }

    def stop(self) -> None:
        """Begins the orderly end. Repeating it changes nothing."""
        self._stopping.set()

    def hurry(self) -> None:
        """Ends everything now, without grace."""
        self._stopping.set()
        self._hurrying.set()

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Returns when all has ended; ``on_ready`` is called once every child is ready.

        Raises HeadgateError when a child does not start at first, or ends too often.
        """
        procs.become_subreaper()
        tasks: list[asyncio.Task[None]] = []
        async with self._signals():
            try:
                tasks.append(asyncio.create_task(self._guard(self._tend()), name="tend"))
                starting = self._guard(self._start_all(tasks, on_ready))
                tasks.append(asyncio.create_task(starting, name="start"))
                await self._stopping.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._on_stop()
                await self._end_all()
        if self._failure is not None:
            raise self._failure

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        """SIGTERM, SIGHUP and Ctrl-C stop; Ctrl-C once more hurries."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if self._stopping.is_set():
                self.hurry()
            self.stop()

        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGHUP: self.stop,
            signal.SIGINT: interrupt,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever goes wrong in ``work`` ends everything; nothing is left unwatched."""
        try:
            await work
        except HeadgateError as error:
            self._fail(error)
        except Exception as error:
            self._log.exception("supervisor_failed")
            self._fail(HeadgateError(ErrorCode.INTERNAL, f"the supervisor failed: {error!r}"))

    async def _start_all(
        self, tasks: list[asyncio.Task[None]], on_ready: Callable[[], None]
    ) -> None:
        """Starts each child when the one before is ready."""
        for kept in self._kept:
            await self._start(kept)
            keeping = self._guard(self._keep(kept))
            tasks.append(asyncio.create_task(keeping, name=f"keep {kept.child.name}"))
        on_ready()

    def _fail(self, error: HeadgateError) -> None:
        self._failure = self._failure or error
        self.stop()

    async def _start(self, kept: _Kept) -> None:
        """Starts a child and returns when it is ready; raises HeadgateError when it will not be."""
        child = kept.child
        bound_log(kept.output)
        try:
            with kept.output.open("ab") as output:
                kept.process = procs.Process.start(
                    child.argv, output=output, env=child.env, fds=child.fds
                )
        except OSError as error:
            raise HeadgateError(
                ErrorCode.INTERNAL, f"{child.name} cannot be started: {error}"
            ) from None
        kept.started_at = asyncio.get_running_loop().time()
        self._log.info("started", child=child.name, pid=kept.process.pid)
        ended = asyncio.create_task(kept.process.wait())
        ready = asyncio.create_task(_ready(child))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise HeadgateError(
                    ErrorCode.UNAVAILABLE,
                    f"{child.name} ended before it was ready, with "
                    f"{procs.describe_exit(ended.result())}{_last_words(kept.output)}",
                    target=child.name,
                )
            await ready
        except HeadgateError:
            await kept.process.stop(grace_s=0)
            raise
        finally:
            ended.cancel()
            ready.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
        self._on_start()

    async def _keep(self, kept: _Kept) -> None:
        """Waits for the end of a child and starts it again, until the budget is spent."""
        loop = asyncio.get_running_loop()
        while True:
            assert kept.process is not None
            problem = f"ended with {procs.describe_exit(await kept.process.wait())}"
            while True:
                now = loop.time()
                delay_s = self._policy.delay_s(kept.restarts, now, now - kept.started_at)
                if delay_s is None:
                    raise self._gave_up(kept, problem)
                self._log.warning(
                    "restarting", child=kept.child.name, reason=problem, in_s=round(delay_s, 3)
                )
                kept.restarts.append(now)
                await asyncio.sleep(delay_s)
                try:
                    await self._start(kept)
                    break
                except HeadgateError as error:
                    problem = str(error)

    def _gave_up(self, kept: _Kept, problem: str) -> HeadgateError:
        name, policy = kept.child.name, self._policy
        return HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"{name} had to be restarted {policy.budget} times within {policy.window_s:g} s; "
            f"the last time it {problem}{_last_words(kept.output)}",
            target=name,
        )

    async def _end_all(self) -> None:
        """In reverse order of the start; foundations after the processes that we adopted."""
        foundations = [kept for kept in self._kept if kept.child.foundation]
        for kept in reversed([kept for kept in self._kept if not kept.child.foundation]):
            await self._end(kept)
        await self._end_orphans([k.process.pid for k in foundations if k.process is not None])
        for kept in reversed(foundations):
            await self._end(kept)
        await self._end_orphans([])

    async def _end(self, kept: _Kept) -> None:
        if kept.process is None or kept.process.returncode is not None:
            return
        name, process = kept.child.name, kept.process
        if not await self._unless_hurried(process.stop(grace_s=kept.child.grace_s)):
            await process.stop(grace_s=0)
        if process.returncode == -signal.SIGKILL:
            self._log.warning("killed", child=name, after_s=kept.child.grace_s)
        else:
            self._log.info("stopped", child=name)

    async def _end_orphans(self, spare: Sequence[int]) -> None:
        ending = procs.end_descendants(grace_s=self._orphan_grace_s, spare=spare)
        if not await self._unless_hurried(ending):
            await procs.end_descendants(grace_s=0, spare=spare)

    async def _unless_hurried(self, ending: Coroutine[Any, Any, int]) -> bool:
        """Waits for an orderly end; False when it was cut short by :meth:`hurry`."""
        orderly = asyncio.create_task(ending)
        hurried = asyncio.create_task(self._hurrying.wait())
        try:
            await asyncio.wait({orderly, hurried}, return_when=asyncio.FIRST_COMPLETED)
            return orderly.done()
        finally:
            orderly.cancel()
            hurried.cancel()
            await asyncio.gather(orderly, hurried, return_exceptions=True)

    async def _tend(self) -> None:
        """Collects adopted processes that ended (SIGCHLD belongs to the loop) and bounds logs."""
        while True:
            await asyncio.sleep(_TEND_S)
            procs.reap_adopted(kept.process.pid for kept in self._kept if kept.process is not None)
            for kept in self._kept:
                bound_log(kept.output)


async def _ready(child: Child) -> None:
    """Waits until a child works. Whatever its check raises means only that it does not yet."""
    if child.ready is None:
        return
    try:
        async with asyncio.timeout(child.ready_timeout_s):
            await child.ready()
    except HeadgateError:
        raise
    except TimeoutError:
        problem = f"is not ready after {child.ready_timeout_s:g} s"
    except Exception as error:
        problem = f"cannot be asked whether it is ready: {error!r}"
    else:
        return
    raise HeadgateError(ErrorCode.UNAVAILABLE, f"{child.name} {problem}", target=child.name)


def bound_log(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Moves the content of a log that has grown too large to ``<name>.1``, whose content goes.

    The file itself stays, because a process is writing (appending) to it; a line that it writes
    between the copy and the cut is lost.
    """
    try:
        if path.stat().st_size <= bytes_max:
            return
    except FileNotFoundError:
        return
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


def _last_words(output: Path) -> str:
    """The end of what a child wrote, for an error message that explains itself."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _LAST_WORDS_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    words = "\n".join(lines[-_LAST_WORDS_LINES:])
    return f" (see {output}), after saying:\n{words}" if words else f" (see {output})"
