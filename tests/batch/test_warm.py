"""Nodes between two jobs: which stay, who gets them, when they end, and whom they cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from batch.house import WORKSPACE, House, eventually, house
from headgate.batch import pool, warm
from headgate.metering import app as metering_app
from headgate.runtime.bus import Msg
from headgate.runtime.clock import SystemClock
from headgate_contracts import subjects
from headgate_contracts.batch import RetrySettings
from headgate_contracts.jobs import CancelJob, Job, JobStatus
from headgate_contracts.metering import Cost, CostGroup, GetCosts, Scope
from headgate_contracts.nodes import IDLE, ListNodes, Node
from headgate_contracts.storage import ComputeSpec

TYPES = """
currency: EUR
instance_types:
  dear: {cores: 1, memory_gib: 1, price_per_hour: 3.6}
"""
TWO_CORES = "Standard_DS2_v2"
# Says which process has a file, in its output and in a file of its own.
WHO = """
import os

def init():
    global folder
    folder = os.environ["AZUREML_BI_OUTPUT_PATH"]

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    print("at work on", *names)
    with open(os.path.join(folder, "names.txt"), "a") as file:
        file.writelines(name + "\\n" for name in names)
    return [f"{name},{open(path).read()},{os.getpid()}" for name, path in zip(names, mini_batch)]
"""


# --- decisions ---------------------------------------------------------------------------------


def idle(name: str, since: float, kind: str = "blue") -> Node:
    return Node(id=name, job=IDLE, state="idle", started_at=since, kind=kind)


def ended(
    nodes: list[Node], now: float, *, busy: int = 0, least: int = 0, most: int = 9, idle_s: int = 60
) -> list[str]:
    compute = ComputeSpec(
        name="pool",
        min_instances=least,
        max_instances=most,
        idle_time_before_scale_down=idle_s,
    )
    return [node.id for node in warm.surplus(nodes, busy, compute, now)]


def test_a_node_ends_when_it_has_been_idle_for_the_time_of_its_compute() -> None:
    nodes = [idle("a", 100.0), idle("b", 130.0)]
    assert [ended(nodes, now) for now in (159.9, 160.0, 190.0)] == [[], ["a"], ["a", "b"]]
    assert ended(nodes, 100.0, idle_s=0) == ["a"]  # what is idle since 130 is not, yet
    assert warm.surplus(nodes, 0, None, 0.0) == nodes  # of a compute that was deleted
    assert warm.surplus([], 0, ComputeSpec(name="pool"), 0.0) == []


def test_nodes_of_jobs_and_idle_ones_are_no_more_than_max_instances() -> None:
    nodes = [idle("b", 110.0), idle("a", 100.0), idle("c", 120.0)]
    found = [ended(nodes, 121.0, busy=busy, most=3) for busy in range(5)]
    assert found == [[], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"]]


def test_min_instances_of_the_kind_that_was_used_last_do_not_end() -> None:
    nodes = [idle("a", 100.0), idle("b", 101.0, "green"), idle("c", 102.0), idle("d", 103.0)]
    assert ended(nodes, 1_000.0, least=2) == ["a", "b"]
    assert ended(nodes, 1_000.0, least=2, busy=1) == ["a", "b", "c"]  # a job's node is one of them
    assert ended(nodes, 1_000.0, least=2, busy=3) == ["a", "b", "c", "d"]
    assert ended(nodes, 1_000.0, least=9) == ["b"]
    assert ended(nodes, 1_000.0, least=2, most=2, busy=1) == ["a", "b", "c"]


def test_a_job_gets_the_last_used_node_of_its_kind() -> None:
    nodes = [idle("a", 100.0), idle("c", 102.0), idle("b", 101.0, "green")]
    assert warm.chosen(nodes, "blue") == nodes[1]
    assert warm.chosen(nodes, "red") is None
    assert warm.oldest(nodes) == nodes[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"idle_time_before_scale_down": 0}, False),
        ({"idle_time_before_scale_down": 0, "min_instances": 1}, True),
    ],
)
def test_a_node_stays_where_its_compute_has_an_idle_time(
    fields: dict[str, Any], expected: bool
) -> None:
    compute = ComputeSpec(name="pool", **fields)
    node = Node(id="a", job="j", state="running")
    assert warm.stays(node, compute) is expected
    assert not warm.stays(node.model_copy(update={"state": "starting"}), compute)
    assert not warm.stays(node, None)


# --- with real nodes ---------------------------------------------------------------------------


async def nodes_of(home: House) -> list[Node]:
    return list((await home.ask(ListNodes())).nodes)


async def all_idle(home: House, count: int = 1) -> list[Node]:
    """The nodes once all of them are idle, and so many."""

    async def look() -> list[Node]:
        found = await nodes_of(home)
        are_idle = all(node.state == "idle" for node in found)
        return found if are_idle and len(found) == count else []

    return await eventually(look)


async def none_left(home: House) -> None:
    async def look() -> bool:
        return not await nodes_of(home)

    await eventually(look)


async def done(home: House, uri: str, **fields: Any) -> Job:
    job = await home.until((await home.submit(uri, **fields)).name)
    assert (job.status, job.error) == (JobStatus.COMPLETED, None)
    return job


async def rows_of(home: House, job: Job) -> list[list[str]]:
    return [line.split(",") for line in (await home.output(job)).splitlines()]


async def pids_of(home: House, job: Job) -> set[str]:
    return {pid for _, _, pid in await rows_of(home, job)}


async def test_the_next_job_gets_the_node_as_it_is_and_each_pays_its_time(tmp_path: Path) -> None:
    (tmp_path / "types.yaml").write_text(TYPES)
    async with house(tmp_path, instance_types=tmp_path / "types.yaml") as home:
        metering = await metering_app.build(
            home.settings, await home.connect("metering"), SystemClock()
        )
        await metering.start()
        begun = time.time()
        compute = await home.compute(size="dear")
        await home.deploy(WHO, compute=compute, mini_batch_size=2, max_concurrency_per_instance=2)
        one = await done(home, await home.upload("one", {f"a{n}": f"{n}" for n in range(8)}))
        (first,) = await all_idle(home)
        assert first.processes == 2
        two = await done(home, await home.upload("two", {f"b{n}": f"{n + 9}" for n in range(8)}))
        (second,) = await all_idle(home)
        pids = await pids_of(home, one) | await pids_of(home, two)
        assert len(pids) <= 2 and second.id != first.id
        assert [row[:2] for row in await rows_of(home, two)] == [
            [f"b{n}", f"{n + 9}"] for n in range(8)
        ]
        names = (await home.output(two, "names.txt")).splitlines()
        assert names == [f"b{n}" for n in range(8)]
        await eventually(lambda: _tells_of(home, two, "b7"))
        assert "a0" not in await home.log(two, "stdout.txt")
        assert "b0" not in await home.log(one, "stdout.txt")

        async def rows() -> dict[str, Cost]:
            query = GetCosts(scope=Scope(workspace=WORKSPACE), by=CostGroup.JOB, since=begun)
            found = {row.group: row for row in (await home.ask(query)).rows}
            return found if {one.name, two.name, "pool (idle)"} <= found.keys() else {}

        found = await eventually(rows)
        for name in (one.name, two.name, "pool (idle)"):
            assert found[name].node_s > 0 and found[name].node_cost > 0, name
        assert found["pool (idle)"].batch == 0
        await metering.stop()


async def _tells_of(home: House, job: Job, name: str) -> bool:
    return name in await home.log(job, "stdout.txt")


async def test_a_node_ends_after_its_idle_time_and_at_once_without_one(home: House) -> None:
    told: list[list[str]] = []

    async def note(message: Msg) -> None:
        told.append(message.subject.split(".")[-3:])  # job, node, what

    await home.probe.subscribe(subjects.events_of("node"), note)

    async def both_told() -> bool:
        return [what for job, _, what in told if job == IDLE] == ["started", "ended"]

    for name, idle_s in (("none", 0), ("short", 1)):
        compute = await home.compute(name, idle_time_before_scale_down=idle_s)
        await home.deploy(WHO, compute=compute)
        await done(home, await home.numbers(3))
        await none_left(home)
        if not idle_s:
            assert IDLE not in [job for job, _, _ in told]
    await eventually(both_told)


async def test_another_deployment_gets_a_node_of_its_own_in_the_place_of_an_idle_one(
    home: House,
) -> None:
    compute, uri = await home.compute(max_instances=1), await home.numbers(3)
    await home.deploy(WHO, compute=compute)
    blue = await done(home, uri)
    (node,) = await all_idle(home)
    await home.deploy(WHO, name="green", compute=compute)
    green = await done(home, uri)
    assert await pids_of(home, blue) != await pids_of(home, green)
    (other,) = await all_idle(home)
    assert other.kind != node.kind
    again = await done(home, uri, deployment="green")
    assert await pids_of(home, again) == await pids_of(home, green)


async def test_a_job_that_waits_for_its_turn_gets_the_node_of_the_one_before(home: House) -> None:
    compute, uri = await home.compute(max_instances=1), await home.numbers(20)
    await home.deploy(WHO, compute=compute, mini_batch_size=1)
    jobs = [await home.submit(uri) for _ in range(3)]
    pids = [await pids_of(home, await home.until(job.name)) for job in jobs]
    assert len(set.union(*pids)) == 1


async def test_min_instances_outlive_the_batch_service_until_they_are_wanted_no_more(
    home: House,
) -> None:
    fields = {"min_instances": 1, "idle_time_before_scale_down": 0}
    compute, uri = await home.compute(**fields), await home.numbers(4)
    await home.deploy(WHO, compute=compute, mini_batch_size=1)
    one = await done(home, uri)
    await all_idle(home)
    await home.stop("batch")
    await home.start("batch")
    two = await done(home, uri)
    assert await pids_of(home, two) <= await pids_of(home, one)
    await all_idle(home)
    await home.compute(idle_time_before_scale_down=0)
    await none_left(home)


async def test_an_idle_node_gives_way_where_the_machine_has_no_room(tmp_path: Path) -> None:
    async with house(tmp_path, host_cores=3.0, host_memory_gib=100, elastic_types=False) as home:
        uri = await home.numbers(3)
        for name in ("one", "two"):
            compute = await home.compute(name, size=TWO_CORES, min_instances=1)
            await home.deploy(WHO, name=name, compute=compute)
            await done(home, uri)
            (node,) = await all_idle(home)
            assert node.compute == name


async def test_a_node_whose_job_was_canceled_in_the_middle_of_something_does_not_stay(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for grace in ("RELEASE_GRACE_S", "CANCEL_GRACE_S"):
        monkeypatch.setattr(pool, grace, 0.2)
    begun = tmp_path / "begun"
    script = f"""
import pathlib, time
def init(): pass
def run(mini_batch):
    pathlib.Path({str(begun)!r}).touch()
    time.sleep(60)
"""
    compute = await home.compute(min_instances=1)
    await home.deploy(script, compute=compute, retry_settings=RetrySettings(timeout=100))
    job = await home.submit(await home.numbers(1))

    async def has_begun() -> bool:
        return begun.exists()

    await eventually(has_begun)
    await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))
    assert (await home.until(job.name)).status is JobStatus.CANCELED
    await none_left(home)
