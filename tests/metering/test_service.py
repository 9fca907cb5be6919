"""The service on a real bus and both databases: usage exactly once, costs to the cent."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from headgate.metering import app
from headgate.metering.rows import VERSION_TABLE, PositionRow
from headgate.runtime import intake
from headgate.runtime.tables import open_database
from headgate_contracts import streams, subjects
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.metering import (
    Budget,
    BudgetAlerted,
    BudgetsReply,
    DeleteBudget,
    Grain,
    ListBudgets,
    PutBudget,
    Scope,
)
from headgate_contracts.provisioning import InstanceAdopted, InstanceLost, InstanceStopped
from metering.conftest import DAY, MakeWorld, World, at, used

TYPES = """
currency: EUR
price_per_gb: 0.087
instance_types:
  light: {cores: 1, memory_gib: 1, price_per_hour: 0.096}
  heavy: {cores: 1, memory_gib: 1, price_per_hour: 1.17}
"""


async def a_scripted_day(make_world: MakeWorld, kind: str = "sqlite") -> World:
    """What runs on a day, and who asks for how much."""
    world = await make_world(kind)
    path = world.settings.data / "types.yaml"
    path.write_text(TYPES)
    await world.stop()
    await world.start(instance_types=path)
    await world.started("i1", "2030-03-09 12:00", "digits/blue", "light")
    await world.started("i2", "2030-03-10 08:15:30", "digits/blue", "light")
    await world.instance(InstanceStopped, "i2", "2030-03-10 17:45:30", "digits/blue")
    await world.started("i3", "2030-03-09 23:00", "shop/green", "heavy")
    await world.instance(InstanceLost, "i3", "2030-03-10 06:40", "shop/green")
    await world.started("i4", "2030-03-10 06:40:10", "shop/green", "heavy")
    await world.instance(InstanceAdopted, "i4", "2030-03-10 07:00", "shop/green", "heavy")
    await world.instance(InstanceStopped, "i4", "2030-03-10 07:10:10", "shop/green")
    await world.report(
        used(at("2030-03-10 09:05"), caller="a", requests=900, compute_us=3_000_000),
        used(at("2030-03-10 09:40"), caller="b", requests=300, compute_us=1_000_000),
        used(
            at("2030-03-10 10:00"),
            caller="a",
            requests=50,
            response_bytes=12_345_678_901,
            compute_us=1,
        ),
        used(at("2030-03-10 10:00"), caller="", kind="mirrored", response_bytes=10**12),
        used(at("2030-03-10 10:01"), caller="b", status=429, requests=7),
    )
    await world.until(lambda reply: reply.total.requests == 1_257)
    await world.until(lambda reply: reply.total.instance_s == 146_400)
    return world


async def test_a_scripted_day_costs_what_a_hand_calculation_says(
    make_world: MakeWorld, kind: str
) -> None:
    """
    digits/blue: i1 24 h and i2 9.5 h, at 0.096: 33.5 x 0.096 = 3.216; traffic: 12.345678901 GB
    at 0.087 = 1.074074064387. shop/green: i3 6 h 40 min and i4 30 min: 7 1/6 x 1.17 = 8.385.
    In all 12.675074064387. At nine both light instances ran: 0.192, of which a computed three
    quarters (0.144) and b one (0.048); from ten to eleven a alone computed (0.192); the rest of
    3.216 is nobody's, and so is shop/green.
    """
    world = await a_scripted_day(make_world, kind)
    reply = await world.costs(by="deployment")
    assert reply.currency == "EUR" and reply.until == at("2030-03-11")
    assert {row.group: (row.cost, row.requests) for row in reply.rows} == {
        "digits/blue": (4.290074, 1_257),
        "shop/green": (8.385, 0),
    }
    blue = next(row for row in reply.rows if row.group == "digits/blue")
    assert (blue.instance_cost, blue.traffic_cost) == (3.216, 1.074074)
    assert (blue.instance_s, blue.mirrored, blue.compute_s) == (33.5 * 3_600, 1, 4.000001)
    assert reply.total.cost == 12.675074
    assert (await world.costs(by="endpoint")).rows[0].group == "shop"
    assert {r.group: r.cost for r in (await world.costs(by="key")).rows} == {
        "a": 1.410074,
        "b": 0.048,
        "": 11.217,
    }
    reply = await world.costs(by="day", since=at("2030-03-09"))
    assert {row.group: row.cost for row in reply.rows} == {
        "2030-03-09": 2.322,  # 12 h of i1 (1.152) and one of i3 (1.17)
        "2030-03-10": 12.675074,
    }
    reply = await world.costs(by="endpoint", scope={"endpoint": "shop"})
    assert reply.total.cost == 8.385
    assert (await world.costs(scope={"workspace": "other"})).rows == ()


async def test_a_new_price_counts_from_the_start_with_it(make_world: MakeWorld) -> None:
    world = await a_scripted_day(make_world)
    await world.stop()
    world.clock.at = at("2030-03-11 06:00")
    path = world.settings.data / "types.yaml"
    path.write_text(TYPES.replace("0.096", "0.2"))
    await world.start()
    world.clock.at = at("2030-03-11 12:00")
    reply = await world.costs(since=at("2030-03-11"))
    assert reply.total.cost == pytest.approx(6 * 0.096 + 6 * 0.2)
    assert reply.total.instance_s == 12 * 3_600


async def test_what_is_said_again_counts_once(make_world: MakeWorld, kind: str) -> None:
    """Whole reports, parts of them, in any mixture, over restarts, in two orders of reporters."""
    world = await make_world(kind)
    dice = random.Random(3)
    rows = [used(caller=f"k{n % 3}", requests=n + 1) for n in range(20)]
    for reporter in ("r1", "r2"):
        said = 0
        while said < len(rows):
            first = dice.randrange(said + 1)  # repeats what is stored, and goes on from there
            said = min(len(rows), max(said, first + dice.randrange(1, 6)))
            await world.report(*rows[first:said], reporter=reporter, epoch=4, first=first)
        await world.stop()
        await world.start()
        await world.report(*rows, reporter=reporter, epoch=4)
        await world.report(used(requests=1_000), reporter=reporter, epoch=3)
        await world.report(used(requests=1), reporter=reporter, epoch=5)
    reply = await world.until(lambda r: r.total.requests >= 2 * (210 + 1), by="key")
    assert reply.total.requests == 2 * (210 + 1)
    by_key = {row.group: row.requests for row in reply.rows}
    assert by_key["k0"] == 2 * sum(n + 1 for n in range(0, 20, 3))


async def test_a_stream_that_began_again_is_followed(make_world: MakeWorld) -> None:
    world = await make_world()
    await world.report(used(requests=5))
    await world.until(lambda r: r.total.requests == 5)
    await world.stop()
    database = await open_database(
        world.settings.database_url("metering"), app.MIGRATIONS, VERSION_TABLE
    )
    async with database.transaction() as session:
        await session.merge(PositionRow(stream=streams.USAGE.name, sequence=10_000))
    await database.close()
    await world.report(used(requests=7), epoch=2)
    await world.start()
    reply = await world.until(lambda r: r.total.requests >= 12)
    assert reply.total.requests == 12


async def test_what_is_taken_in_leaves_the_stream(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "REMOVE_EVERY_S", 0.0)
    world = await make_world()
    for epoch in range(10):
        await world.report(used(), epoch=epoch)
    await world.until(lambda r: r.total.requests == 10)
    bus = await world.connect("bootstrap")
    async with asyncio.timeout(10):
        while (await bus.js.stream_info(streams.USAGE.name)).state.messages:
            await asyncio.sleep(0.05)
    await bus.close()


async def test_minutes_are_added_up_to_hours(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    rows = [used(DAY + 60 * n, requests=n + 1, caller=f"k{n % 2}") for n in range(130)]
    await world.report(*rows)
    await world.until(lambda r: r.total.requests == 8_515)
    before = {by: (await world.costs(by=by)).rows for by in ("key", "day")}
    database = await open_database(
        world.settings.database_url("metering"), app.MIGRATIONS, VERSION_TABLE
    )
    await app.forget_once(database, DAY + 4 * 86_400)
    world.clock.at = DAY + 4 * 86_400
    after = {by: (await world.costs(by=by, until=DAY + 86_400)).rows for by in ("key", "day")}
    assert after == before
    await world.report(used(DAY + 60, requests=1), epoch=2)  # comes late, and finds its hour
    await world.until(lambda r: r.total.requests == 8_516)
    async with database.reading() as session:
        from sqlmodel import select

        from headgate.metering.rows import UsageRow

        kept = (await session.exec(select(UsageRow.begins))).all()
    assert len(kept) == 6 and all(begins % 3_600 == 0 for begins in kept)
    await app.forget_once(database, DAY + 400 * 86_400)
    assert (await world.costs()).total.requests == 0
    await database.close()


async def test_what_is_not_understood_is_left_out(make_world: MakeWorld) -> None:
    world = await make_world()
    for payload in (b"", b"{", b'{"reporter": "r", "epoch": -1, "rows": []}', b"[]"):
        await world.buses["router"].publish_stored_event(subjects.usage("r"), payload, {})
    for payload in (b"[1]", b'{"instance": "i"}', b"5"):
        subject = subjects.event("instance", "e.d.i", "started")
        await world.buses["provisioner"].publish_stored_event(subject, payload, {})
    await world.report(used(DAY - 40 * 86_400), used())
    reply = await world.until(lambda r: r.total.requests, since=0)
    assert reply.total.requests == 1


async def alerts(world: World) -> list[BudgetAlerted]:
    bus = await world.connect("bootstrap")
    try:
        found, last = [], (await bus.js.stream_info(streams.EVENTS.name)).state.last_seq
        for sequence in range(1, last + 1):
            message = await bus.js.get_msg(streams.EVENTS.name, seq=sequence)
            if message.subject and ".evt.budget." in message.subject:
                found.append(BudgetAlerted.model_validate_json(message.data or b""))
        return found
    finally:
        await bus.close()


async def test_an_alert_comes_once_per_threshold_and_period(
    make_world: MakeWorld, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the scripted day 12.68 are spent: 50 % of 15 is reached, 100 % on the next day."""
    monkeypatch.setattr(app, "BUDGETS_EVERY_S", 0.05)
    world = await a_scripted_day(make_world, kind)
    world.clock.at = at("2030-03-10 23:00")
    scope = Scope(workspace="local")
    budget = Budget(name="daily", scope=scope, amount=15, grain=Grain.DAY)
    probe = world.buses["probe"]
    reply = await probe.ask(PutBudget(budget=budget), BudgetsReply)
    assert reply.budgets[0].spent == pytest.approx(12.579074)  # an hour of i1 is to come
    async with asyncio.timeout(20):
        while not (found := await alerts(world)):
            await asyncio.sleep(0.05)
    await world.stop()
    await world.start()  # looks at once, and finds nothing new
    again = (await probe.ask(PutBudget(budget=budget), BudgetsReply)).budgets[0]
    async with asyncio.timeout(20):
        while not (again := (await probe.ask(_one("daily"), BudgetsReply)).budgets[0]).alerted:
            await asyncio.sleep(0.05)
    assert again.alerted == (50.0, 80.0)
    found = await alerts(world)
    assert [each.threshold_percent for each in found] == [50.0, 80.0]
    assert found[0].workspace == "local" and found[0].amount == 15
    assert found[0].spent == pytest.approx(12.579074)
    world.clock.at = at("2030-03-17 12:00")  # another day, on which i1 costs 1.152
    await probe.ask(PutBudget(budget=budget), BudgetsReply)
    small = budget.model_copy(update={"name": "small", "amount": 1.0, "thresholds": (100.0,)})
    await probe.ask(PutBudget(budget=small), BudgetsReply)
    async with asyncio.timeout(20):
        while len(found := await alerts(world)) < 3:
            await asyncio.sleep(0.05)
    assert [(each.budget, each.threshold_percent) for each in found[2:]] == [("small", 100.0)]
    await probe.ask(DeleteBudget(workspace="local", name="small"), Done)
    with pytest.raises(HeadgateError) as caught:
        await probe.ask(_one("small"), BudgetsReply)
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND


def _one(name: str) -> ListBudgets:
    return ListBudgets(workspace="local", name=name)


@pytest.mark.parametrize(
    ("changes", "target"),
    [({"thresholds": (0.0,)}, "thresholds"), ({"scope": {"tag": "team"}}, "tag")],
)
async def test_a_bad_budget_is_refused(
    make_world: MakeWorld, changes: dict[str, object], target: str
) -> None:
    world = await make_world()
    about = json.loads(json.dumps(changes))
    about["scope"] = {"workspace": "local", **about.get("scope", {})}
    budget = Budget.model_validate({"name": "b", "amount": 1, **about})
    with pytest.raises(HeadgateError) as caught:
        await world.buses["probe"].ask(PutBudget(budget=budget), BudgetsReply)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert caught.value.error.target == target
