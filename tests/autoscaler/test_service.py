"""The autoscaler at work: settings, decisions, history, events, restarts, on real parts."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from autoscaler.settings import FOLLOWS, WEEK, latency, profile, rule, setting
from autoscaler.world import World, until
from headgate_contracts import limits, power, streams
from headgate_contracts.quotas import PutQuota, Quota, QuotaKind
from headgate_contracts.simulations import LoadPoint, SimulateAutoscale, SimulationReply

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_rule_on_the_endpoints_latency_scales_a_deployment(world: World, name: str) -> None:
    """Out, then held by the cooldown and told once; the numbers are in the history and events."""
    await world.deploy(name)
    world.router.rates[name, "blue"] = {"requests": 50, "latency_s": 5.0}
    await world.put(latency(name, cooldown=5))
    await world.counted(name, 3)
    out = await world.decided(name, "scale_out")
    assert (out.action, out.from_count, out.to_count, out.reason) == (
        "scale_out",
        1,
        3,
        "scale_out",
    )
    assert out.figures[0].threshold == 70
    assert out.figures[0].value == pytest.approx(100, rel=0.2)
    held = await world.decided(name, "cooldown")
    assert (held.action, held.to_count, held.wanted_count) == ("hold", 3, 5)
    await world.counted(name, 5)
    reasons = [decision.reason for decision in await world.decisions(name)]
    assert reasons.count("cooldown") == 1
    subject = f"hg.v1.evt.autoscale.{name}.blue.scaled_out"

    async def is_told() -> bool:
        message = await world.probe.js.get_last_msg(streams.EVENTS.name, subject)
        return bool(json.loads(message.data or b"{}")["to_count"] == 5)

    await until(is_told, "the event")


async def test_a_count_beyond_a_quota_is_refused_and_told_once(world: World, name: str) -> None:
    await world.deploy(name)
    kept = Quota(workspace="local", name=name, kind=QuotaKind.INSTANCES, limit=2, endpoint=name)
    await world.ask(PutQuota(quota=kept))
    world.router.rates[name, "blue"] = {"requests": 50, "latency_s": 5.0}
    await world.put(latency(name, cooldown=1))
    refused = await world.decided(name, "refused")
    assert (refused.action, refused.to_count, refused.wanted_count) == ("hold", 1, 3)
    assert f"quota {name!r} allows 2" in refused.message
    await world.ask(PutQuota(quota=kept.model_copy(update={"limit": 3})))
    await world.counted(name, 3)
    reasons = [decision.reason for decision in await world.decisions(name)]
    assert reasons.count("refused") == 1
    subject = f"hg.v1.evt.autoscale.{name}.blue.failed"
    message = await world.probe.js.get_last_msg(streams.EVENTS.name, subject)
    assert json.loads(message.data or b"{}")["wanted_count"] == 3


async def test_flapping_is_seen_in_the_history(world: World, name: str) -> None:
    """45 ms is below 50, and would be 90 with half of the instances, which is above 70."""
    await world.deploy(name, instance_count=2)
    world.router.rates[name, "blue"] = {"requests": 50, "latency_s": 2.25}
    await world.put(latency(name, cooldown=1))
    held = await world.decided(name, "flapping")
    assert (held.to_count, held.wanted_count) == (2, 1)
    assert await world.count(name) == 2


async def test_a_schedule_changes_the_capacity_on_the_minute(world: World, name: str) -> None:
    await world.deploy(name)
    begins = (datetime.now(UTC) + timedelta(hours=3)).replace(second=0, microsecond=0)
    busy = profile(name="busy", bounds=(4, 6, 4), weekly=("UTC", WEEK, begins.hour, begins.minute))
    quiet = (begins + timedelta(hours=1)).hour
    calm = profile(name="calm", bounds=(1, 2, 1), weekly=("UTC", WEEK, quiet, begins.minute))
    try:
        world.clock.ahead_s = begins.timestamp() - 2 - world.clock.now()
        await world.put(setting(busy, calm, endpoint=name))
        await world.counted(name, 4)
        decision = await world.decided(name, "outside_bounds")
        assert (decision.reason, decision.profile) == ("outside_bounds", "busy")
        assert 0 <= decision.at - begins.timestamp() <= 5
        world.clock.ahead_s += 3_600
        await world.counted(name, 2)
    finally:
        world.clock.ahead_s = 0.0


async def test_a_count_outside_the_bounds_is_brought_back(world: World, name: str) -> None:
    await world.deploy(name)
    await world.put(setting(profile(bounds=(1, 3, 1)), endpoint=name))
    await world.ask(
        power.ScaleDeployment(workspace="local", endpoint=name, name="blue", instance_count=9)
    )
    await world.counted(name, 3)


async def test_the_instances_follow_the_load_down_to_none_and_back(world: World, name: str) -> None:
    deployed = await world.deploy(name, scale_settings=FOLLOWS)
    key = (name, "blue")
    world.router.rates[key] = {"busy_s": 4.0, "requests": 40}
    world.router.now[key] = {"in_flight": 4, "ready_instances": 1}
    await world.counted(name, 4)
    await world.report(await world.deployment(name))
    world.router.rates[key], world.router.now[key] = {}, {"ready_instances": 1}
    await world.counted(name, 0)
    down = await world.decided(name, "to_zero")
    assert (down.action, down.to_count) == ("scale_in", 0)
    world.router.now[key] = {"held": 3}
    await world.counted(name, 3)
    up = await world.decided(name, "from_zero")
    assert (up.from_count, up.to_count) == (0, 3)
    assert deployed.spec.instance_count == 1


async def test_without_a_word_from_routers_nothing_is_taken_away(world: World, name: str) -> None:
    await world.deploy(name, scale_settings=FOLLOWS, instance_count=4)
    try:
        world.router.is_silent = True
        held = await world.decided(name, "no_data")
        assert (held.to_count, held.action) == (4, "hold")
        assert await world.count(name) == 4
    finally:
        world.router.is_silent = False
    await world.counted(name, 0)  # now it is known that there is no load


async def test_a_restart_keeps_settings_and_cooldowns_and_takes_nothing_away(
    world: World, name: str
) -> None:
    await world.deploy(name)
    world.router.rates[name, "blue"] = {"requests": 50, "latency_s": 5.0}
    await world.put(latency(name, cooldown=3_600))
    await world.counted(name, 3)
    await world.stop()
    await world.start()
    world.router.rates[name, "blue"] = {"requests": 50, "latency_s": 1.0}
    held = await world.decided(name, "cooldown")
    while held.wanted_count != 2:
        await asyncio.sleep(0.1)
        cooled = [d for d in await world.decisions(name) if d.reason == "cooldown"]
        held = cooled[-1]
    assert await world.count(name) == 3


async def test_a_disabled_setting_and_a_stopped_deployment_are_left_alone(
    world: World, name: str
) -> None:
    await world.deploy(name)
    narrow = setting(profile(bounds=(3, 5, 3)), endpoint=name)
    await world.put(narrow.model_copy(update={"enabled": False}))
    await world.ask(power.StopDeployment(workspace="local", endpoint=name, name="blue"))
    await world.put(narrow)
    other = f"{name}-b"
    await world.deploy(other)
    await world.put(setting(profile(bounds=(2, 5, 2)), endpoint=other))
    await world.counted(other, 2)  # so the first has been looked at as well
    assert await world.count(name) == 1


async def test_a_setting_is_tried_on_a_load_and_nothing_changes(world: World, name: str) -> None:
    await world.deploy(name)
    wanted = setting(
        profile(rule("CpuUtilizationPercentage > 70"), rule("CpuUtilizationPercentage < 20",
                "Decrease"), bounds=(1, 4, 1)),
        endpoint=name,
    )  # fmt: skip
    load = (LoadPoint(at_s=0, requests_per_s=2), LoadPoint(at_s=3_600, requests_per_s=30),
            LoadPoint(at_s=7_200, requests_per_s=0))  # fmt: skip
    asked = SimulateAutoscale(workspace="local", spec=wanted, load=load, duration_s=10_800)
    told = await world.probe.ask(asked, SimulationReply)
    assert (told.instances_max, told.moments[-1].instances) == (4, 1)
    assert told.requests == pytest.approx(3_600 * 32, rel=0.01)
    assert told.changes_count == 6
    assert told.changes[0].message
    assert len(told.moments) <= limits.SIMULATION_MOMENTS_MAX
    assert told.week == ("default",) * 168
    assert await world.decisions(name) == []
