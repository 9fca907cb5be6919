"""Requests beside a batch job of low priority that takes what is left of the processors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean, median

from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.store import Store
from headgate_contracts.jobs import CancelJob, JobStatus
from loadtests import open_loop
from loadtests.batch_user import WORKSPACE, BatchUser
from loadtests.open_loop import poisson
from loadtests.processes import cpu_s
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System
from loadtests.workloads import Target

PROCESSES, FILES = 2, 300
RATE_PER_S = 300
P99_MAX = 1.10
# Half a second of work for each file. The clock is read once in a millisecond or so: the kernel
# locks the queue of the processor for it, and whoever wakes a task there waits for that lock.
SCRIPT = """
import time
def init(): pass
def run(mini_batch):
    until = time.process_time() + 0.5
    while time.process_time() < until:
        sum(range(100_000))
    return mini_batch
"""


async def measure(quick: bool) -> Outcome:
    seconds, turns = (4.0, 4) if quick else (8.0, 5)
    alone: list[float] = []
    beside: list[float] = []
    again: list[float] = []
    used: list[float] = []
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        await _p99_ms(target, seconds, 0)
        async with _user(system) as user:
            uri = await user.numbers(FILES)
            for turn in range(turns):
                alone.append(await _p99_ms(target, seconds, turn))
                job = await _start(system, user, uri)
                before = _batch_cpu_s(system)
                beside.append(await _p99_ms(target, seconds, turn))
                used.append((_batch_cpu_s(system) - before) / seconds)
                await user.ask(CancelJob(workspace=WORKSPACE, name=job))
                await user.until(job)
                again.append(await _p99_ms(target, seconds, turn))
    outcome = Outcome(f"a batch job of low priority beside {RATE_PER_S} requests/s")
    outcome.figures = {
        "p99 ms alone, each turn": _listed(alone),
        "p99 ms beside it": _listed(beside),
        "p99 ms alone again": _listed(again),
        "cores that the job had": _listed(used),
        # What the machine does by itself: no promise can be tighter.
        "p99 alone again by p99 alone, median of turns": f"{_ratio(alone, again):.2f}",
    }
    around = [mean(pair) for pair in zip(alone, again, strict=True)]
    outcome.at_most(
        "p99 beside it by p99 before and after, median of turns", _ratio(around, beside), P99_MAX
    )
    return outcome


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _ratio(before: Sequence[float], after: Sequence[float]) -> float:
    return median(now / then for then, now in zip(before, after, strict=True))


async def _p99_ms(target: Target, seconds: float, seed: int) -> float:
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.quantile_ms(0.99)


@asynccontextmanager
async def _user(system: System) -> AsyncIterator[BatchUser]:
    """Somebody with a batch deployment of the script."""
    user, url = BatchUser(), system.running_file()["nats"]
    user.store = Store(f"file://{system.data}/store")
    user.probe = await Bus.connect("probe", url, system.data / "keys/probe.creds", SystemClock())
    try:
        await user.settle_in()
        await user.deploy(SCRIPT, mini_batch_size=1, max_concurrency_per_instance=PROCESSES)
        yield user
    finally:
        await user.probe.close()


async def _start(system: System, user: BatchUser, uri: str) -> str:
    """A job whose processes are at work."""
    job = await user.submit(uri, overrides={"priority": -1})
    await user.until(job.name, JobStatus.RUNNING)
    begun = _batch_cpu_s(system)
    while _batch_cpu_s(system) < begun + 0.5:
        await asyncio.sleep(0.1)
    return job.name


def _batch_cpu_s(system: System) -> float:
    """Processor time of the processes that stand back, which only those of the job do."""
    return sum(cpu_s(pid) for pid in system.tree.pids("headgate_worker") if _stands_back(pid))


def _stands_back(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[16] == "19"  # nice
