"""What jobs share: the nodes of a compute, and the room of the machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from batch.house import WORKSPACE, House, eventually, house
from headgate.batch import rooming
from headgate_contracts.errors import ErrorCode
from headgate_contracts.jobs import CancelJob, Job, JobStatus
from headgate_contracts.nodes import ListNodes
from headgate_contracts.provisioning import CapacityReply, GetCapacity

TWO_CORES, EIGHT_CORES = "Standard_DS2_v2", "Standard_DS4_v2"
SLEEPING = """
import os, time
def init(): pass
def run(mini_batch):
    time.sleep(0.05)
    return [os.path.basename(path) for path in mini_batch]
"""


async def test_nodes_take_room_of_the_machine_and_wait_for_it(tmp_path: Path) -> None:
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        for name in ("one", "two"):
            compute = await home.compute(
                name, size=TWO_CORES, max_instances=4, idle_time_before_scale_down=0
            )
            await home.deploy(SLEEPING, name=name, compute=compute, mini_batch_size=1)
        uri = await home.numbers(30)
        jobs = [await home.submit(uri, deployment=name) for name in ("one", "two")]
        most = 0

        async def all_ended() -> bool:
            nonlocal most
            nodes = (await home.ask(ListNodes())).nodes
            alive = sum(node.state != "ended" for node in nodes)
            taken: CapacityReply = await home.ask(GetCapacity())
            assert taken.taken.cores <= 3.0
            most = max(most, alive)
            found = [await home.job(job.name) for job in jobs]
            return all(job.status.is_final for job in found)

        await eventually(all_ended)
        assert most == 1
        for job in jobs:
            assert (await home.job(job.name)).status is JobStatus.COMPLETED

        async def is_free_again() -> bool:
            free: CapacityReply = await home.ask(GetCapacity())
            return free.taken.cores == 0

        await eventually(is_free_again)


ONE_CORE = "Standard_DS1_v2"


@pytest.mark.parametrize("count", [3, 2])  # 2: what is free already is kept for it, too
async def test_small_nodes_give_way_to_a_large_one_that_waits(tmp_path: Path, count: int) -> None:
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        for name, size in (("small", ONE_CORE), ("large", TWO_CORES)):
            compute = await home.compute(name, size=size, max_instances=3)
            await home.deploy(SLEEPING, name=name, compute=compute, mini_batch_size=1)
        uri, overrides = await home.numbers(2_000), {"instance_count": count}
        small = await home.submit(uri, deployment="small", overrides=overrides)
        await eventually(lambda: _has_nodes(home, small, count))
        large = await home.submit(uri, deployment="large")
        await home.until(large.name, JobStatus.RUNNING)
        assert (await home.job(small.name)).status is JobStatus.RUNNING
        await eventually(lambda: _has_nodes(home, small, 1))
        for job in (small, large):
            await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))


@pytest.mark.parametrize("computes", [("one", "two"), ("one", "one")])
async def test_jobs_take_turns_with_room_for_a_single_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computes: tuple[str, str]
) -> None:
    """A turn begins when a script has been loaded: shorter ones than that are turns, too."""
    monkeypatch.setattr(rooming, "TURN_S", 0.3)
    slow = SLEEPING.replace("def init(): pass", "def init(): time.sleep(0.6)")
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        jobs = []
        uri = await home.numbers(2_000)
        for name, pool in zip(("first", "second"), computes, strict=True):
            compute = await home.compute(pool, size=TWO_CORES, max_instances=4)
            await home.deploy(slow, name=name, compute=compute, mini_batch_size=1)
            jobs.append(await home.submit(uri, deployment=name))
        for _ in range(2):
            for job in jobs:  # each goes on again and again
                settled = (await home.job(job.name)).counts.settled
                await eventually(lambda job=job, n=settled: _has_settled(home, job, n + 5))
        for job in jobs:
            assert (await home.job(job.name)).counts.retries == 0
            await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))


async def test_an_idle_node_ends_before_one_that_works(tmp_path: Path) -> None:
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        for name in ("before", "busy", "new"):
            compute = await home.compute(name, size=ONE_CORE, max_instances=2)
            await home.deploy(SLEEPING, name=name, compute=compute, mini_batch_size=1)
        before = await home.submit(await home.numbers(1), deployment="before")
        await home.until(before.name)
        uri = await home.numbers(2_000)
        busy = await home.submit(uri, deployment="busy", overrides={"instance_count": 2})
        await eventually(lambda: _has_nodes(home, busy, 2))
        nodes = (await home.ask(ListNodes())).nodes
        assert sorted(node.state for node in nodes) == ["idle", "running", "running"]
        new = await home.submit(uri, deployment="new")
        await eventually(lambda: _has_settled(home, new, 10))
        still = {node.id for node in (await home.ask(ListNodes())).nodes if node.job == busy.id}
        assert still == {node.id for node in nodes if node.job == busy.id}
        assert await _has_nodes(home, busy, 2)
        for job in (busy, new):
            await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))


async def _has_nodes(home: House, job: Job, count: int) -> bool:
    nodes = (await home.ask(ListNodes())).nodes
    return (
        sum(node.was_ready and node.state == "running" for node in nodes if node.job == job.id)
        == count
    )


async def _has_settled(home: House, job: Job, count: int) -> bool:
    return (await home.job(job.name)).counts.settled >= count


async def test_a_node_that_never_fits_fails_its_job(tmp_path: Path) -> None:
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        compute = await home.compute(size=EIGHT_CORES)
        await home.deploy(compute=compute)
        job = await home.until((await home.submit(await home.numbers(1))).name)
        assert job.status is JobStatus.FAILED and job.error is not None
        assert job.error.code is ErrorCode.OUT_OF_QUOTA
        assert "8 cores" in job.error.message


@pytest.mark.parametrize("home", ["", "postgresql"], indirect=True)
async def test_a_job_of_higher_priority_comes_first(home: House) -> None:
    compute = await home.compute(max_instances=1)
    await home.deploy(SLEEPING, compute=compute, mini_batch_size=1)
    uri = await home.numbers(60)
    low = await home.submit(uri)
    await home.until(low.name, JobStatus.RUNNING)
    high = await home.submit(uri, overrides={"priority": 5})
    high = await home.until(high.name)
    low = await home.job(low.name)
    assert high.status is JobStatus.COMPLETED
    assert low.status is JobStatus.RUNNING and low.counts.settled < 60
    low = await home.until(low.name)
    assert low.status is JobStatus.COMPLETED and low.counts.retries == 0


async def test_a_node_that_is_about_to_end_still_counts_for_its_compute(home: House) -> None:
    compute = await home.compute(max_instances=1)
    slow = SLEEPING.replace("0.05", "1")
    for name in ("one", "two"):  # of different kinds: neither takes the other's node over
        await home.deploy(slow, name=name, compute=compute, mini_batch_size=1)
    uri, most = await home.numbers(20), 0
    low = await home.submit(uri, deployment="one")
    await home.until(low.name, JobStatus.RUNNING)
    high = await home.submit(uri, deployment="two", overrides={"priority": 5})

    async def is_running() -> bool:
        nonlocal most
        nodes = (await home.ask(ListNodes())).nodes
        most = max(most, sum(node.state != "ended" for node in nodes))
        return (await home.job(high.name)).status is JobStatus.RUNNING

    await eventually(is_running, every_s=0.01)
    assert most == 1
    for job in (high, low):
        await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))


async def test_a_job_of_low_priority_stands_back(home: House) -> None:
    script = """
import os
def init(): pass
def run(mini_batch):
    try:
        with open("/proc/self/autogroup") as file:
            group = int(file.read().split()[-1])
    except OSError:
        group = 19 if os.nice(0) == 19 else 0
    cores = len(os.sched_getaffinity(0))
    return [(os.sched_getscheduler(0) == os.SCHED_BATCH, os.nice(0), group, cores)]
"""
    await home.deploy(script)
    uri, ours, cores = await home.numbers(1), os.nice(0), len(os.sched_getaffinity(0))
    expected = {-1: (True, 19, 19, max(1, cores - 1)), 0: (False, ours, 0, cores)}
    for priority, said in expected.items():
        job = await home.submit(uri, overrides={"priority": priority})
        assert await home.output(await home.until(job.name)) == f"{said}\n"


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("home", "nodes", "over_s"),
    [("", 4, 30), ("postgresql", 4, 30), ("", 3, 200), ("postgresql", 3, 200)],
    indirect=["home"],
)
async def test_two_jobs_share_a_compute_fairly(home: House, nodes: int, over_s: float) -> None:
    """Of three nodes, too, each job has half over time: the third one goes to them in turns."""
    compute = await home.compute(max_instances=nodes)
    await home.deploy(SLEEPING, compute=compute, mini_batch_size=1)
    uri = await home.numbers(8_000)
    overrides = {"instance_count": nodes}
    jobs = [await home.submit(uri, overrides=overrides) for _ in range(2)]
    for job in jobs:
        await home.until(job.name, JobStatus.RUNNING)

    async def settled() -> list[int]:
        return [(await home.job(job.name)).counts.settled for job in jobs]

    before = await settled()
    await asyncio.sleep(over_s)
    one, other = (now - then for now, then in zip(await settled(), before, strict=True))
    assert abs(one - other) <= 0.1 * max(one, other)
    for job in jobs:
        await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))
