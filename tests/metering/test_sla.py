"""Service levels: what counts, when a budget burns, and that both survive a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.metering import app, sla_core, sla_state
from headgate.metering.rows import VERSION_TABLE
from headgate.metering.sla_core import DAY_S, HOUR_S, MINUTE_S, Sli
from headgate.runtime.tables import Database, open_database
from headgate_contracts import streams
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.routing import LATENCY_BOUNDS_MS
from headgate_contracts.sla import (
    DeleteObjective,
    GetSla,
    Indicator,
    Objective,
    PutObjective,
    Severity,
    SlaReply,
    SlaStanding,
)
from metering.conftest import DAY, MakeWorld, World

A, L = Indicator.AVAILABILITY, Indicator.LATENCY
PLACE = ("local", "digits")


def objective(**given: Any) -> Objective:
    return Objective(workspace="local", endpoint="digits", **given)


@pytest.mark.parametrize(
    ("value", "good", "bad", "excluded"),
    [
        ({"statuses": {"200": 5, "204": 1}}, 6, 0, 0),
        ({"statuses": {"500": 1, "502": 1, "503": 2}}, 0, 4, 0),
        ({"statuses": {"408": 1, "429": 2}}, 0, 3, 0),
        ({"statuses": {"400": 1, "404": 1, "413": 1, "499": 4}}, 0, 0, 7),
        ({"statuses": {"424": 5}, "model_statuses": {"500": 5}}, 0, 5, 0),
        ({"statuses": {"424": 5}, "model_statuses": {"422": 3, "500": 2}}, 0, 2, 3),
        ({"statuses": {"424": 1}, "model_statuses": {"400": 2}}, 0, 0, 1),
        ({"mirrored": {"500": 9}}, 0, 0, 0),
        ({}, 0, 0, 0),
    ],
)
def test_what_a_client_does_wrong_is_no_failure_of_ours(
    value: dict[str, Any], good: int, bad: int, excluded: int
) -> None:
    assert sla_core.of_deployment(value, 0) == Sli(good, bad, excluded)


def test_refusals_before_a_deployment_is_chosen() -> None:
    """Wrong keys and quotas are the client's; what the router has no room for is ours."""
    value = {"statuses": {"401": 3, "429": 5, "404": 1, "503": 2}}
    assert sla_core.of_endpoint(value) == Sli(bad=2, excluded=9)


def test_latency_is_what_a_histogram_says() -> None:
    low, high = LATENCY_BOUNDS_MS[39], LATENCY_BOUNDS_MS[40]
    buckets = {"10": 50, "40": 40, "60": 10}
    sli = sla_core.of_deployment({"latencies": buckets}, (low + high) / 2)
    assert sli.measured == 100 and sli.fast == pytest.approx(70)
    assert sla_core.within({40: 4}, high) == 4
    assert sla_core.within({40: 4}, low) == 0
    assert sla_core.within({len(LATENCY_BOUNDS_MS): 4}, 180_000) == 0
    assert sla_core.of_deployment({"latencies": buckets}, 0).measured == 0


def test_without_requests_nothing_is_known() -> None:
    found = sla_core.standing(objective(latency_ms=100), {}, (), is_default=True)
    assert [window.seconds for window in found.windows] == [*sla_core.WINDOWS_S, 30 * DAY_S]
    assert {window.availability_percent for window in found.windows} == {None}
    assert {window.latency_burn for window in found.windows} == {None}
    assert found.availability_budget_left_percent is None
    only_bad_clients = sla_core.standing(
        objective(), {30 * DAY_S: Sli(excluded=50)}, (), is_default=True
    )
    assert only_bad_clients.windows[-1].availability_percent is None


def test_figures_of_a_budget_equal_a_hand_calculation() -> None:
    """999 of 1,000 is exactly what 99.9 % allows; 4 failures are four budgets."""
    month = 30 * DAY_S
    slis = {HOUR_S: Sli(996, 4), month: Sli(9_995, 5, fast=93, measured=100)}
    found = sla_core.standing(objective(latency_ms=100), slis, (), is_default=False)
    hour, whole = (each for each in found.windows if each.seconds in (HOUR_S, month))
    assert (hour.availability_percent, hour.availability_burn) == (99.6, 4)
    assert hour.latency_percent is None
    assert (whole.availability_percent, whole.availability_burn) == (99.95, 0.5)
    assert (whole.latency_percent, whole.latency_burn) == (93, 1.4)
    assert found.availability_budget_left_percent == 50
    assert found.latency_budget_left_percent == -40


def slis(**shares: tuple[int, int]) -> dict[int, Sli]:
    lengths = {"m5": 300, "m30": 1_800, "h1": 3_600, "h6": 21_600, "d3": 259_200}
    return {lengths[name]: Sli(*counts) for name, counts in shares.items()}


@pytest.mark.parametrize(
    ("found", "page", "ticket"),
    [
        (slis(), None, None),  # nothing at all: whatever there was is over
        # 2 % of failures burn 20 times as fast as 0.1 %.
        (slis(m5=(98, 2), m30=(98, 2), h1=(980, 20), h6=(980, 20), d3=(980, 20)), 14.4, 1.0),
        # ... but it is over already:
        (slis(m5=(100, 0), m30=(999, 1), h1=(980, 20), h6=(980, 20), d3=(980, 20)), None, 1.0),
        # One that is slower: 0.7 % for six hours.
        (slis(m5=(993, 7), m30=(993, 7), h1=(993, 7), h6=(9_930, 70), d3=(9_930, 70)), 6.0, 1.0),
        (slis(m5=(997, 3), m30=(997, 3), h1=(997, 3), h6=(997, 3), d3=(9_970, 30)), None, 1.0),
        (slis(m5=(9_999, 1), m30=(9_999, 1), h1=(9_999, 1), h6=(9_999, 1), d3=(9_999, 1)), None,
         None),
        # One failure of nine requests is too little to tell.
        (slis(m5=(8, 1), m30=(8, 1), h1=(8, 1), h6=(8, 1), d3=(8, 1)), None, None),
    ],
)  # fmt: skip
def test_alerts_look_at_two_windows(
    found: dict[int, Sli], page: float | None, ticket: float | None
) -> None:
    said = sla_core.burning(objective(), A, found)
    assert {severity: burn.rule.threshold if burn else None for severity, burn in said.items()} == {
        Severity.PAGE: page,
        Severity.TICKET: ticket,
    }


def test_an_alert_stays_while_nobody_can_tell() -> None:
    found = slis(h1=(980, 20), h6=(980, 20), d3=(980, 20))  # no requests for half an hour
    said = sla_core.burning(objective(), A, found)
    assert Severity.PAGE not in said and said[Severity.TICKET] is not None
    assert sla_core.burning(objective(), L, found) == {Severity.PAGE: None, Severity.TICKET: None}


# --- the service -------------------------------------------------------------------------------


async def opened(world: World) -> Database:
    return await open_database(
        world.settings.database_url("metering"), app.MIGRATIONS, VERSION_TABLE
    )


async def keep(world: World, minutes: dict[float, Sli]) -> None:
    """Minutes of the endpoint, by how many seconds ago they began."""
    database = await opened(world)
    async with database.transaction() as session:
        for ago, sli in minutes.items():
            minute = int(world.clock.at - ago) // MINUTE_S * MINUTE_S
            await sla_state.save_slis(session, minute, {PLACE: sli})
    await database.close()


async def ask(world: World, *endpoints: str) -> tuple[SlaStanding, ...]:
    query = GetSla(workspace="local", endpoints=endpoints)
    return (await world.buses["probe"].ask(query, SlaReply)).standings


async def told(world: World) -> list[str]:
    """The events about service levels, in order."""
    found, sequence = [], 0
    stream = world.buses["probe"].js
    while True:
        try:
            message = await stream.get_msg(
                streams.EVENTS.name, seq=sequence + 1, subject="hg.v1.evt.sla.>", next=True
            )
        except Exception:
            return found
        sequence = message.seq or 0
        found.append((message.subject or "").rpartition(".")[2])


async def test_an_objective_is_kept_and_judged(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    await keep(world, {120: Sli(90, 10, 3), 7_200: Sli(900, 0), 40 * DAY_S: Sli(0, 10_000)})
    (found,) = await ask(world)
    assert found.is_default and found.objective.availability_percent == 99.9
    by_length = {window.seconds: window for window in found.windows}
    assert by_length[300].availability_percent == 90
    assert by_length[300].excluded == 3
    assert by_length[6 * HOUR_S].availability_percent == 99
    assert found.availability_budget_left_percent == pytest.approx(-900)
    wanted = objective(availability_percent=95, window_days=60)
    reply = await world.buses["probe"].ask(PutObjective(objective=wanted), SlaReply)
    assert reply.standings[0].windows[-1].bad == 10_010
    await world.stop()
    await world.start()
    (found,) = await ask(world, "digits")
    assert found.objective == wanted and not found.is_default
    gone = DeleteObjective(workspace="local", endpoint="digits")
    await world.buses["probe"].ask(gone, Done)
    assert (await ask(world, "digits"))[0].is_default
    with pytest.raises(HeadgateError) as caught:
        await world.buses["probe"].ask(gone, Done)
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    (unknown,) = await ask(world, "never-asked")
    assert unknown.windows[-1].availability_percent is None
    assert (
        await ask(world, "digits")
        and not (await world.buses["probe"].ask(GetSla(workspace="another"), SlaReply)).standings
    )


async def test_a_burn_is_told_once_and_its_end_too_over_restarts(
    make_world: MakeWorld, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SLA_EVERY_S", 0.05)
    world = await make_world(kind)
    await keep(world, {60: Sli(90, 10)})
    async with asyncio.timeout(30):
        while len(await told(world)) < 2:  # a page and a ticket
            await asyncio.sleep(0.05)
    (found,) = await ask(world)
    assert {alert.severity for alert in found.alerts} == {Severity.PAGE, Severity.TICKET}
    await world.stop()
    await world.start()
    world.clock.at += HOUR_S  # no requests since: unknown, so the ticket stays as it is
    async with asyncio.timeout(30):
        await keep(world, {60: Sli(10_000, 0), HOUR_S - 60: Sli(1_000, 0)})
        while "recovered" not in await told(world):
            await asyncio.sleep(0.05)
    world.clock.at += 4 * DAY_S
    async with asyncio.timeout(30):
        while (await told(world)).count("recovered") < 2:
            await asyncio.sleep(0.05)
    assert await told(world) == ["burning"] * 2 + ["recovered"] * 2
    assert (await ask(world))[0].alerts == ()


async def test_minutes_become_hours_and_lose_nothing(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    await world.stop()
    database = await opened(world)
    for number in range(150):
        async with database.transaction() as session:
            sli = Sli(number, 1, 2, 0.5, 3)
            at = int(DAY) - 300 + 60 * number
            await sla_state.save_slis(session, at, {PLACE: sli, ("local", "b"): Sli(1)})
    async with database.transaction() as session:
        before = await sla_state.sums(session, 0)
        while await sla_state.fold_an_hour(session, int(DAY) + 2 * HOUR_S):
            pass
    async with database.reading() as session:
        assert await sla_state.sums(session, 0) == before
        assert (await sla_state.sums(session, DAY + 2 * HOUR_S, "local", ["b"])) == {
            ("local", "b"): Sli(25)
        }
    await database.close()
