"""All jobs that have not ended: a driver for each, and how fast they go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from headgate.batch import state
from headgate.batch.driver import JobDriver, Tools, clean_up
from headgate.runtime.log import Log
from headgate_contracts import limits

RATE_OVER_S = 30.0
_LOOK_S = 10.0
_HOUSEKEEPING_S = 600.0

_log = Log("batch")


class Dispatcher:
    """Drivers by the id of their job."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._drivers: dict[str, JobDriver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._settled: dict[str, deque[tuple[float, int]]] = {}

    def wake(self, job_id: str) -> None:
        """Something about a job has changed; it gets a driver if it has none."""
        if job_id not in self._tasks:
            self._drivers[job_id] = JobDriver(job_id, self._tools)
            self._tasks[job_id] = asyncio.create_task(self._drive(job_id))
        self._drivers[job_id].wake()

    async def run(self) -> None:
        """Look for jobs without a driver, for ever: those of an earlier run, above all."""
        while True:
            async with self._tools.database.reading() as session:
                jobs = await state.active_jobs(session)
            for job in jobs:
                if job.id not in self._tasks:
                    self.wake(job.id)
            await asyncio.sleep(_LOOK_S)

    async def housekeeping(self) -> None:
        """Forget results that nobody will go on with, for ever."""
        while True:
            before = self._tools.clock.now() - limits.JOB_PARTS_KEPT_S
            async with self._tools.database.reading() as session:
                old = await state.with_old_parts(session, before)
            for job in old:
                if job.id not in self._tasks:
                    await clean_up(self._tools, job)
            await asyncio.sleep(_HOUSEKEEPING_S if not old else 1.0)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _drive(self, job_id: str) -> None:
        try:
            await self._drivers[job_id].run()
        except Exception:
            _log.exception("job_driver_failed", job=job_id)
            await asyncio.sleep(1.0)  # the next look gives it another one
        finally:
            self._tasks.pop(job_id, None)
            self._drivers.pop(job_id, None)
            self._settled.pop(job_id, None)

    # --- rates ---------------------------------------------------------------------------------

    def note_settled(self, job_id: str, settled: int) -> None:
        """How far a job is now."""
        now = self._tools.clock.monotonic()
        seen = self._settled.setdefault(job_id, deque(maxlen=1_000))
        seen.append((now, settled))
        while seen and now - seen[0][0] > RATE_OVER_S:
            seen.popleft()

    def per_s(self, job_id: str) -> float | None:
        """Mini-batches per second of late; None when that is not known."""
        return _rate(tuple(self._settled.get(job_id, ())))


def _rate(seen: Sequence[tuple[float, int]]) -> float | None:
    if len(seen) < 2:
        return None
    (begun, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - begun) if ended > begun else None
