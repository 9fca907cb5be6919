"""One of four instances is frozen (SIGSTOP) under load: nobody but its own requests is late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter

from loadtests import open_loop
from loadtests.open_loop import poisson
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System

INSTANCES, MODEL_MS = 4, 20
LOAD = 0.25  # so low that no burst of arrivals fills the queue of three instances
FROZEN_AT_S, SECONDS = 3.0, 12.0
TIMEOUT_MS = 5_000
LATE_MS = 1_000.0


async def measure(quick: bool) -> Outcome:
    arrivals = poisson(LOAD * INSTANCES * 1000 / MODEL_MS, SECONDS, seed=6)
    with System.running() as system:
        system.deploy(BLUE, "timed.py", concurrency=1, instances=INSTANCES, timeout_ms=TIMEOUT_MS)
        target = system.target()
        message = target.message(b'{"ms": %d}' % MODEL_MS)
        pid = system.worker_pids()[0]
        freezing = asyncio.create_task(_freeze(pid))
        shots = await open_loop.run(target, arrivals, [message] * len(arrivals))
        await freezing
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    late = [ms for ms in shots.latencies_ms() if ms > LATE_MS]
    failed = Counter(status for status in shots.statuses if status != 200)
    outcome = Outcome("one of four instances is stopped under load")
    outcome.figures = {
        "requests": len(shots),
        "p50, p99 ms before": _two(shots, 0.0, FROZEN_AT_S),
        "p50, p99 ms after": _two(shots, FROZEN_AT_S, SECONDS),
        "statuses of failed requests": ", ".join(f"{s}: {n}" for s, n in failed.items()) or "none",
        "late requests, ms": " ".join(f"{ms:.0f}" for ms in late) or "none",
    }
    outcome.at_most("failed", shots.errors, 0)
    outcome.at_most("late requests (it had one in hand)", len(late), 1)
    return outcome


def _two(shots: open_loop.Shots, since: float, until: float) -> str:
    return " ".join(f"{shots.quantile_ms(q, since=since, until=until):.1f}" for q in (0.5, 0.99))


async def _freeze(pid: int) -> None:
    await asyncio.sleep(FROZEN_AT_S)
    os.kill(pid, signal.SIGSTOP)
