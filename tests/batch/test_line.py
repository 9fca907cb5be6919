"""Who waits for room of the machine, and whom they ask for it: what the line says to the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from headgate.batch.core import TURN_S
from headgate.batch.line import Line
from headgate.batch.records import JobDocument, JobRecord
from headgate.runtime import natsd
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.jobs import JobInput, JobOutput, JobSettings, JobStatus
from headgate_contracts.nodes import Node, Place
from headgate_contracts.provisioning import Amounts, CapacityReply, GetCapacity

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZES = {"one": 1, "two": 2}
CORES = 4


class Hand(SystemClock):
    """A clock whose hand is moved by the test."""

    at = 1_000.0

    def monotonic(self) -> float:
        return self.at


@dataclass
class World:
    """A line beside a provisioner whose machine has four cores, so many of them taken."""

    line: Line
    clock: Hand
    taken: float = CORES

    async def capacity(self, query: GetCapacity) -> CapacityReply:
        each = SIZES.get(query.instance_type)
        return CapacityReply(total=cores(CORES), taken=cores(self.taken), each=each and cores(each))


@pytest_asyncio.fixture(loop_scope="session")
async def world(nats: natsd.RunningServer) -> AsyncIterator[World]:
    clock = Hand()

    async def connect(name: str) -> Bus:
        return await Bus.connect(name, nats.url, nats.creds(name), SystemClock())

    bus = await connect("batch")
    world = World(Line(bus, clock), clock)
    provisioner = Service(
        await connect("provisioner"), description="", handlers={GetCapacity: world.capacity}
    )
    await provisioner.start()
    yield world
    await provisioner.stop()
    await bus.close()


def cores(count: float) -> Amounts:
    return Amounts(cores=count, memory_bytes=0, gpus=0)


def job(name: str, size: str = "one", priority: int = 0, created_at: float = 0.0) -> JobRecord:
    document = JobDocument(
        input=JobInput(uri="x"),
        output=JobOutput(uri="y"),
        settings=JobSettings(priority=priority),
        deployment=BatchDeploymentSpec(name="blue", endpoint_name="ep-1", compute="pool"),
        from_place=Place(),
        to_place=Place(),
        instance_type=size,
    )
    status = JobStatus.RUNNING
    return JobRecord(name, "local", name, "ep-1", "blue", status, document, created_at=created_at)


def nodes(*names: str, **fields: Any) -> list[Node]:
    """Node ``a1`` is of job ``a``; it has its script loaded."""
    about = {"state": "running", "was_ready": True, **fields}
    return [Node(id=name, job=name[0], **about) for name in names]


async def asked(world: World, first: JobRecord, found: list[Node], *others: JobRecord) -> Any:
    world.line.note(found)
    world.clock.at += TURN_S
    world.line.note(found)
    return await world.line.room_for(first, {each.id: each for each in (first, *others)}, found)


async def test_those_that_wait_come_in_their_order_and_by_their_priority_first(
    world: World,
) -> None:
    line = world.line
    jobs = [job("a", created_at=1.0), job("b", created_at=2.0), job("c", created_at=3.0)]
    assert [each.id for each in line.ordered(reversed(jobs))] == ["a", "b", "c"]
    line.join("c")
    world.clock.at += 1
    line.join("b")
    world.clock.at += 1
    line.join("c")  # it has been there already
    high = job("d", priority=1)
    assert [each.id for each in line.ordered([*jobs, high])] == ["d", "c", "b", "a"]
    line.leave("c")
    assert "c" not in line and "b" in line
    line.ordered([jobs[0]])
    assert "b" not in line  # it wants nothing any more


async def test_a_node_has_worked_since_it_was_ready(world: World) -> None:
    assert await asked(world, job("a"), nodes("b1"), job("b")) == ["b1"]
    assert await asked(world, job("a"), nodes("b2", was_ready=False), job("b")) == []


async def test_a_turn_begins_anew_with_another_node(world: World) -> None:
    assert await asked(world, job("a"), nodes("b1"), job("b")) == ["b1"]
    other = nodes("b2")
    world.line.note(other)
    assert await world.line.room_for(job("a"), {"b": job("b")}, other) == []


async def test_what_a_job_has_itself_counts_and_is_not_asked_for(world: World) -> None:
    waits = job("a", "two")
    assert await asked(world, waits, nodes("a1")) is None  # nobody else has anything
    held = nodes("a1", "b1", "b2", was_ready=False)
    assert await asked(world, job("a"), held, job("b")) == []  # one more each: in turns
    assert await asked(world, job("a"), held[1:], job("b")) == ["b1"]


async def test_room_is_that_of_each_size(world: World) -> None:
    held = nodes("b1", "c1")
    others = job("b", "one"), job("c", "two")
    assert await asked(world, job("a", "two"), held, *others) == ["b1", "c1"]
    world.taken = CORES - 1
    assert await asked(world, job("a", "two"), held, *others) == ["b1"]
    assert await asked(world, job("a", "two"), held, others[0]) == ["b1"]  # one is of nobody
    world.taken = CORES
    assert await asked(world, job("a", "two"), held, others[0]) is None


async def test_a_higher_priority_keeps_its_room(world: World) -> None:
    others = job("b", priority=1), job("c", priority=-1)
    assert await asked(world, job("a"), nodes("b1"), others[0]) is None
    assert await asked(world, job("a"), nodes("b1", "c1", was_ready=False), *others) == ["c1"]


async def test_a_size_that_is_no_promise_takes_no_room(world: World) -> None:
    assert await world.line.takes_room(job("a"))
    for size in ("", "elastic"):
        assert not await world.line.takes_room(job("a", size))
        assert await asked(world, job("a", size), nodes("b1"), job("b")) is None
    assert await asked(world, job("a"), nodes("b1"), job("b", "elastic")) is None


async def test_sizes_are_asked_for_anew_with_each_look(world: World) -> None:
    assert not await world.line.takes_room(job("a", "new"))
    SIZES["new"] = 1
    try:
        world.line.note([])
        assert await world.line.takes_room(job("a", "new"))
    finally:
        del SIZES["new"]
