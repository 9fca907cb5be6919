"""What batch jobs use: node hours by their price, and the time that mini-batches computed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from headgate.metering.core import GbPrices, Ran, Used, costs
from headgate.provisioner.nodes.standing import Standing
from headgate_contracts.jobs import JobCounts, MiniBatchesSettled, SettledMiniBatch
from headgate_contracts.metering import CostGroup
from headgate_contracts.nodes import NodeEnded, NodeStarted
from metering.conftest import DAY, MakeWorld, World

PRICES = """
currency: EUR
instance_types:
  dear: {cores: 1, memory_gib: 1, price_per_hour: 3.6}
"""


async def node(
    world: World, kind: type[NodeStarted | NodeEnded], name: str, when: float, **more: float
) -> None:
    event = kind.model_validate(
        {
            "workspace": "local",
            "job": "the-id",
            "job_name": name.partition("-")[0],
            "node": name,
            "endpoint": "numbers",
            "deployment": "blue",
            "instance_type": "dear",
            **more,
        }
    )
    await world.say("provisioner", event, when)


async def settled(world: World, job: str, when: float, *run_ms: float) -> None:
    mini_batches = tuple(
        SettledMiniBatch(number=n, failed=ms < 0, run_ms=abs(ms)) for n, ms in enumerate(run_ms)
    )
    event = MiniBatchesSettled(
        workspace="local",
        endpoint="numbers",
        deployment="blue",
        job=job,
        mini_batches=mini_batches,
        counts=JobCounts(),
    )
    await world.say("batch", event, when)


async def test_nodes_and_mini_batches_are_counted_apart_from_online_use(
    make_world: MakeWorld, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "types.yaml").write_text(PRICES)
    world = await make_world(kind, instance_types=tmp_path / "types.yaml")
    world.buses["batch"] = await world.connect("batch")
    begin = DAY + 3_000.0
    await node(world, NodeStarted, "first-1", begin)
    await node(world, NodeStarted, "second-1", begin)
    await node(world, NodeEnded, "first-1", begin + 1_000, alive_s=1_000)
    await settled(world, "first", begin + 10, 100, -50)
    await world.started("i1", "2030-03-10 02:00", "digits/blue", "dear")
    await world.until(lambda reply: reply.total.instance_s and reply.total.batch == 2)
    await world.stop()  # what comes meanwhile is waiting in the streams
    await node(world, NodeEnded, "second-1", begin + 500.0, alive_s=400)
    await node(world, NodeEnded, "first-1", begin + 5_000, alive_s=1_000)  # told twice
    await node(world, NodeEnded, "third-1", begin + 700, alive_s=200)  # never said to have started
    await node(world, NodeEnded, "fourth-1", begin + 700, alive_s=0)  # it never started
    await settled(world, "second", begin + 20, 1_000)
    await world.start()
    reply = await world.until(
        lambda reply: reply.total.batch == 3 and reply.total.node_s == 1_600, by="job"
    )
    found = {row.group: row for row in reply.rows}
    assert set(found) == {"", "first", "second", "third"}
    assert [(found[job].node_s, found[job].node_cost) for job in ("first", "second", "third")] == [
        (1_000, 1.0),
        (400, 0.4),
        (200, 0.2),
    ]
    assert (found["first"].batch, found["first"].compute_s) == (2, 0.15)
    assert (found[""].node_s, found[""].batch) == (0, 0) and found[""].instance_s > 0
    assert sum(row.cost for row in reply.rows) == pytest.approx(reply.total.cost)
    for by, group in (("endpoint", "numbers"), ("deployment", "numbers/blue"), ("key", "")):
        rows = {row.group: row for row in (await world.costs(by=by)).rows}
        assert (rows[group].node_s, rows[group].compute_s) == (1_600, 1.15), by
    assert (await world.costs(scope={"endpoint": "numbers"})).total.cost == 1.6


async def test_a_new_price_counts_for_nodes_that_run(make_world: MakeWorld, tmp_path: Path) -> None:
    types = tmp_path / "types.yaml"
    types.write_text(PRICES)
    world = await make_world(instance_types=types)
    begin = world.clock.now() - 2_000
    await node(world, NodeStarted, "first-1", begin)
    await world.until(lambda reply: reply.total.node_s == 2_000)
    await world.stop()
    types.write_text(PRICES.replace("3.6", "7.2"))
    await world.start()
    await node(world, NodeEnded, "first-1", begin + 3_000, alive_s=3_000)
    world.clock.at = begin + 10_000
    reply = await world.until(lambda reply: reply.total.node_s == 3_000)
    assert reply.total.node_cost == 2.0 + 2.0


def test_what_is_grouped_by_job_adds_up_to_the_same() -> None:
    used = [
        Used(DAY, "e", "d", "k", "scored", 5, 1, 2, 100),
        Used(DAY, "n", "d", "job", "batch", 7, 0, 0, 1_000_000),
    ]
    ran = [
        Ran("e", "d", DAY, DAY + 100, Decimal(36)),
        Ran("n", "d", DAY, DAY + 10, Decimal(36), "job"),
    ]
    totals = set()
    for by in CostGroup:
        rows, total = costs(used, ran, GbPrices({}), {}, by=by, since=DAY, until=DAY + 3_600)
        totals.add(total)
        assert sum(row.node_s for row in rows) == 10 and sum(row.instance_s for row in rows) == 100
        assert sum(row.batch for row in rows) == 7 and sum(row.cost for row in rows) == 1.1
    assert len(totals) == 1


def test_nodes_that_their_service_did_not_outlive_end_when_it_was_last_there(
    tmp_path: Path,
) -> None:
    standing = Standing(tmp_path / "nodes")
    assert not list(standing.left())
    for name in ("a", "b"):
        event = NodeEnded(workspace="local", job="j", node=name, alive_s=0, instance_type="x")
        standing.note(event, 1_000.0)
    standing.touch(1_060.5)
    standing.forget("b")
    (tmp_path / "nodes" / "c.json").write_text("not ours")
    (found,) = Standing(tmp_path / "nodes").left()
    assert (found.node, found.alive_s, found.instance_type) == ("a", 60.5, "x")
    standing.forget("a")
    assert not list(standing.left())
