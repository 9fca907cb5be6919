"""Autoscale settings as the service keeps them, on both kinds of database."""

from __future__ import annotations

import pytest

from autoscaler.settings import WEEK, latency, profile, refused, rule, setting
from autoscaler.world import World
from headgate_contracts import autoscale, registry
from headgate_contracts.errors import ErrorCode

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_setting_is_stored_listed_replaced_and_deleted(any_world: World, name: str) -> None:
    world = any_world
    await world.deploy(name)
    made = await world.put(latency(name), create_only=True)
    assert made.created and made.setting.spec == latency(name)
    again = await world.put(latency(name))
    assert (again.created, again.setting.revision) == (False, made.setting.revision)
    changed = await world.put(latency(name, cooldown=5), if_revision=made.setting.revision)
    assert changed.setting.revision > made.setting.revision
    await refused(
        ErrorCode.REVISION_MISMATCH, world.put(latency(name), if_revision=made.setting.revision)
    )
    await refused(ErrorCode.RESOURCE_EXISTS, world.put(latency(name), create_only=True))
    query = autoscale.GetAutoscaleSetting(workspace="local", name=f"{name}-blue")
    assert (await world.ask(query)).setting == changed.setting
    listing = autoscale.ListAutoscaleSettings(workspace="local", endpoint=name)
    assert (await world.ask(listing)).settings == (changed.setting,)
    delete = autoscale.DeleteAutoscaleSetting(workspace="local", name=f"{name}-blue")
    assert (await world.ask(delete)).existed and not (await world.ask(delete)).existed
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(query))


async def test_lists_come_in_pages(any_world: World, name: str) -> None:
    world = any_world
    for deployment in ("blue", "green", "red"):
        await world.deploy(name, deployment)
        await world.put(setting(endpoint=name, deployment=deployment))
    found: list[str] = []
    after = ""
    while True:
        reply = await world.ask(
            autoscale.ListAutoscaleSettings(workspace="local", endpoint=name, after=after, limit=2)
        )
        found += [each.spec.deployment for each in reply.settings]
        after = reply.after
        if not after:
            break
    assert found == ["blue", "green", "red"]


async def test_what_means_nothing_is_refused(any_world: World, name: str) -> None:
    world = any_world
    await world.deploy(name)
    bad = ErrorCode.BAD_ARGUMENT

    async def put(*profiles: autoscale.Profile) -> None:
        await world.put(setting(*profiles, endpoint=name))

    await refused(bad, put(profile(bounds=(3, 2, 2))), "minimum 3 <= default 2")
    await refused(bad, put(profile(bounds=(0, 2, 1))), "at least 1", "target_utilization")
    await refused(bad, put(profile(rule("Happiness < 1"))), "no metric 'Happiness'")
    await refused(bad, put(profile(), profile()), "two profiles are called")
    await refused(bad, put(profile(), profile(name="b")), "only one profile")
    mars = profile(name="x", weekly=("Mars", WEEK, 1, 0))
    await refused(bad, put(mars), "no time zone")
    short = rule("RequestLatency > 1", time_window=30)
    await refused(bad, put(profile(short)), "shorter than time_grain")
    elsewhere = rule("RequestLatency > 1", resource="endpoints/no-such-one")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, put(profile(elsewhere)))
    await refused(
        ErrorCode.RESOURCE_NOT_FOUND, world.put(setting(endpoint=name, deployment="green"))
    )
    await put(profile())
    second = setting(endpoint=name).model_copy(update={"name": "another"})
    await refused(ErrorCode.RESOURCE_CONFLICT, world.put(second), f"{name}-blue")


async def test_a_setting_of_another_workspace_is_not_seen(any_world: World, name: str) -> None:
    world = any_world
    await world.deploy(name)
    await world.put(setting(endpoint=name))
    query = autoscale.GetAutoscaleSetting(workspace="other", name=f"{name}-blue")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(query))
    foreign = autoscale.PutAutoscaleSetting(workspace="other", spec=setting(endpoint=name))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(foreign))
    assert not (await world.ask(autoscale.ListDecisions(workspace="other"))).decisions
    await world.ask(registry.DeleteEndpoint(workspace="local", name=name))
