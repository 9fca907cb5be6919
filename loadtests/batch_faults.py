"""``python -m loadtests.batch_faults``: a job among kills, beside the same job in peace.

Every part is killed with SIGKILL: a process with the script loaded every few seconds; the batch
service, the provisioner (with all of its nodes) and the bus at random moments. Each is started
again at once. Both jobs must have the very same output, which has every input exactly once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from headgate.runtime import procs
from headgate_contracts.jobs import Job, JobStatus
from loadtests import batch_system
from loadtests.batch_system import BUS, BatchSystem

PROCESSES = 2
WITHIN_S = 900.0
SCRIPT = """
import os, time
def init(): pass
def run(mini_batch):
    time.sleep(float(os.environ["SECONDS"]))
    return [f"{os.path.basename(path)},{2 * int(open(path).read())}" for path in mini_batch]
"""


class Faults:
    """Kills, while a job runs. ``moments``: which part at which second."""

    def __init__(self, system: BatchSystem, dice: random.Random, worker_every_s: float) -> None:
        self._system = system
        self._dice = dice
        self._worker_every_s = worker_every_s
        self._turns = {name: asyncio.Lock() for name in (*batch_system.READY, BUS)}
        self.done: Counter[str] = Counter()

    @asynccontextmanager
    async def going_on(self, moments: list[tuple[float, str]]) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._workers())]
        tasks += [asyncio.create_task(self._part(*moment)) for moment in moments]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _workers(self) -> None:
        while True:
            await asyncio.sleep(self._worker_every_s)
            if found := self._system.workers():
                procs.send(self._dice.choice(found), signal.SIGKILL)
                self.done["worker"] += 1

    async def _part(self, at_s: float, name: str) -> None:
        await asyncio.sleep(at_s)
        async with self._turns[name]:
            await self._system.kill(name)
            self.done[name] += 1


async def job(system: BatchSystem, uri: str) -> tuple[Job, str, float]:
    """A job from its submission to its end; its output, and the seconds it took."""
    begun, settled = time.monotonic(), 0
    name = (await system.submit(uri)).name
    while not (found := await system.job(name)).status.is_final:
        if found.counts.settled < settled:
            raise SystemExit(f"{settled} mini-batches were settled, now {found.counts.settled}")
        settled = found.counts.settled
        if time.monotonic() - begun > WITHIN_S:
            raise SystemExit(f"the job does not end: {found}")
        await asyncio.sleep(0.5)
    took_s = time.monotonic() - begun
    if found.status is not JobStatus.COMPLETED:
        raise SystemExit(f"the job is {found.status.value}: {found.error}")
    return found, await system.output(found), took_s


def moments(
    chosen: argparse.Namespace, dice: random.Random, took_s: float
) -> list[tuple[float, str]]:
    """When to kill what, over the time that the job takes in peace."""
    kills = {"batch": chosen.dispatcher, "provisioner": chosen.provisioner, BUS: chosen.bus}
    return [(dice.uniform(1, took_s), name) for name, count in kills.items() for _ in range(count)]


async def measure(chosen: argparse.Namespace, folder: Path) -> int:
    dice = random.Random(chosen.seed)
    async with batch_system.running(folder) as system:
        await system.deploy(
            SCRIPT,
            mini_batch_size=1,
            max_concurrency_per_instance=PROCESSES,
            environment_variables={"SECONDS": str(chosen.work_ms / 1e3)},
        )
        uri = await system.numbers(chosen.mini_batches)
        _, expected, peace_s = await job(system, uri)
        print(f"in peace: {peace_s:.1f} s, {chosen.mini_batches / peace_s:.1f}/s", flush=True)
        faults = Faults(system, dice, chosen.worker_every_s)
        async with faults.going_on(moments(chosen, dice, peace_s)):
            done, found, took_s = await job(system, uri)
    lines = found.splitlines()
    kills = ", ".join(f"{name} {count}" for name, count in sorted(faults.done.items()))
    print(
        f"with faults: {took_s:.1f} s, {chosen.mini_batches / took_s:.1f}/s, "
        f"{peace_s / took_s:.1%} of the rate; killed: {kills}; "
        f"{done.counts.retries} attempts were repeated"
    )
    print(f"rows {len(lines)}, different {len(set(lines))}, same bytes: {found == expected}")
    is_exact = found == expected and len(set(lines)) == len(lines) == chosen.mini_batches
    return 0 if is_exact and peace_s / took_s >= chosen.least else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.batch_faults", description=__doc__)
    parser.add_argument("--mini-batches", type=int, default=10_000)
    parser.add_argument("--work-ms", type=float, default=20.0)
    parser.add_argument("--worker-every-s", type=float, default=5.0)
    parser.add_argument("--dispatcher", type=int, default=20, help="kills of the batch service")
    parser.add_argument("--provisioner", type=int, default=2)
    parser.add_argument("--bus", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.8, help="share of the rate in peace")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-batch-", ignore_cleanup_errors=True) as name:
        return asyncio.run(measure(chosen, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
