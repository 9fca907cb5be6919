"""Jobs under faults: processes are killed, services restart, and the output is as without."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from batch.house import House, doubled
from headgate.runtime import procs
from headgate_contracts.jobs import JobStatus

SLOW_DOUBLE = """
import os, time
def init(): pass
def run(mini_batch):
    time.sleep(0.02)
    return [f"{os.path.basename(path)},{2 * int(open(path).read())}" for path in mini_batch]
"""


def kill_one(dice: random.Random) -> None:
    """A process that has the script loaded: a grandchild of ours by way of a node's parent."""
    nodes = [each for each in procs.children(os.getpid()) if _is_worker(each.pid)]
    found = [process for node in nodes for process in procs.children(node.pid)]
    if found:
        procs.send(dice.choice(found), signal.SIGKILL)


def _is_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"headgate_worker" in file.read()
    except OSError:
        return False


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_processes_are_killed_and_the_dispatcher_restarts(home: House) -> None:
    await home.deploy(SLOW_DOUBLE, mini_batch_size=1, max_concurrency_per_instance=2)
    uri = await home.numbers(600)
    job = await home.submit(uri, overrides={"max_retries": 20})
    dice, settled = random.Random(7), -1
    for round_ in range(200):
        found = await home.job(job.name)
        if found.status.is_final:
            break
        assert found.counts.settled >= settled  # nothing that is committed is lost
        settled = found.counts.settled
        kill_one(dice)
        if round_ % 4 == 3:
            await home.stop("batch")
            await home.start("batch")
        await asyncio.sleep(0.5)
    job = await home.until(job.name, within_s=120)
    assert (job.status, job.counts.failed) == (JobStatus.COMPLETED, 0)
    assert await home.output(job) == doubled(600)
    assert job.counts.retries > 0
