"""Instances that fail are left out for a while: the rules, then a router that keeps to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.router import quarantine
from headgate_contracts import subjects
from headgate_contracts.routing import InstanceQuarantined
from router.stage import Given, Instance, Stage, connected, until

Names = Callable[[str], str]
NOW = 1_000.0


@dataclass(eq=False)
class One:
    """An instance as the rules see it."""

    failures: int = 0
    failing_since: float = NOW - 10
    well_at: float = NOW - 1
    quarantines: int = 0
    left_out: bool = False
    out_until: float = 0.0


def sick(failures: int = 5, **more: Any) -> One:
    return One(failures, well_at=NOW - 60, **more)


def sentence(one: One, *sisters: One) -> float:
    return quarantine.sentence_s(one, [one, *sisters], NOW)


def test_five_failures_in_a_row_put_an_instance_out() -> None:
    assert sentence(sick(4), One()) == 0
    assert sentence(sick(5), One()) == 30


@pytest.mark.parametrize(("before", "seconds"), [(0, 30), (1, 60), (2, 90), (9, 300), (99, 300)])
def test_each_time_lasts_longer(before: int, seconds: float) -> None:
    assert sentence(sick(quarantines=before, out_until=NOW - 600), One()) == seconds


def test_what_was_long_ago_is_forgiven() -> None:
    assert sentence(sick(quarantines=9, out_until=NOW - 601), One()) == 30


def test_the_last_one_is_never_left_out() -> None:
    assert sentence(sick()) == 0
    assert sentence(sick(), One(left_out=True)) == 0


def test_what_fails_everywhere_is_nobodys_fault() -> None:
    """A client with bad requests, or a script that is broken, must not empty a deployment."""
    assert sentence(sick(), sick(1), sick(9)) == 0
    idle_since_before = One(well_at=NOW - 11)
    assert sentence(sick(), idle_since_before) == 0, "nothing is known of it since"
    assert sentence(sick(), sick(1), One()) == 30


def test_a_request_that_came_late_already_is_not_held_against_anybody() -> None:
    assert quarantine.is_own_delay(5.0, 5.0)
    assert not quarantine.is_own_delay(1.0, 5.0)


patients = st.builds(
    One,
    failures=st.integers(0, 9),
    failing_since=st.floats(0, NOW),
    well_at=st.floats(0, NOW),
    quarantines=st.integers(0, 20),
    left_out=st.booleans(),
    out_until=st.floats(0, NOW + 300),
)


@given(st.lists(patients, min_size=1, max_size=12))
def test_at_most_half_are_out_whatever_happens(able: list[One]) -> None:
    for one in quarantine.too_many_out(able):
        one.left_out = False
    for one in able:
        seconds = quarantine.sentence_s(one, able, NOW)
        assert 0 <= seconds <= quarantine.MAX_S
        if seconds:
            one.left_out = True
    out = sum(one.left_out for one in able)
    assert out <= len(able) // 2 < len(able)
    assert quarantine.too_many_out(able) == []


# --- a router ----------------------------------------------------------------------------------


def broken(_meta: dict[str, Any], _body: bytes) -> Given:
    return 500, [], b"out of handles"


async def fail_until_out(stage: Stage, name: str, bad: Instance) -> None:
    for _ in range(12):
        await stage.ask(name)
    await until(lambda: stage.seen(bad).left_out, "it is left out")


async def test_an_instance_that_alone_fails_is_left_out_and_told_of(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    good = await stage.instance(name)
    bad = await stage.instance(name, model=broken)
    told: list[InstanceQuarantined] = []
    async with connected(stage.server, "probe") as nc:

        async def note(message: Any) -> None:
            told.append(InstanceQuarantined.model_validate_json(message.data))

        await nc.subscribe(subjects.QUARANTINED_ALL, cb=note)
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await nc.flush()
        await fail_until_out(stage, name, bad)
        await until(lambda: told, "the event")
    assert (told[0].instance, told[0].failures, told[0].workspace) == (bad.name, 5, "local")
    assert [(await stage.ask(name)).status for _ in range(10)] == [200] * 10
    assert len(bad.runs) == quarantine.FAILURES_MAX
    reply = await stage.traffic(name)
    assert 0 < reply.deployments["blue"].quarantined[bad.name] <= 30
    assert len(good.runs) > 10


async def test_it_comes_back_when_its_time_is_over(
    stage: Stage, unique: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "FIRST_S", 0.5)
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name)
    bad = await stage.instance(name, model=broken)
    await fail_until_out(stage, name, bad)
    bad.model = lambda _meta, body: (200, [], body)
    await until(lambda: stage.seen(bad) in stage.ready(name), "it is back")
    runs = len(bad.runs)
    assert {(await stage.ask(name)).status for _ in range(6)} == {200}
    assert len(bad.runs) > runs


async def test_it_comes_back_early_when_nobody_else_is_left(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    good = await stage.instance(name)
    bad = await stage.instance(name, model=broken)
    await fail_until_out(stage, name, bad)
    await good.die()
    await stage.say_lost(good)
    await until(lambda: stage.ready(name) == [stage.seen(bad)], "the last one is asked")
    assert (await stage.ask(name)).status == 424


async def test_a_client_whose_requests_are_all_bad_empties_no_deployment(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    both = [await stage.instance(name, model=broken) for _ in range(2)]
    for _ in range(30):
        assert (await stage.ask(name)).status == 424
    assert len(stage.ready(name)) == 2
    assert min(len(instance.runs) for instance in both) > quarantine.FAILURES_MAX


async def test_an_instance_that_no_longer_answers_is_left_out(stage: Stage, unique: Names) -> None:
    """Its heartbeats go on, but its model hangs."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=200)
    await stage.instance(name)
    hung = await stage.instance(name, capacity=50)
    hung.gate.clear()
    for _ in range(6):  # one at a time, the idle sister would get every request
        await asyncio.gather(*(stage.ask(name) for _ in range(4)))
    assert stage.seen(hung).left_out
    assert {(await stage.ask(name)).status for _ in range(10)} == {200}
