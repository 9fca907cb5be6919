"""Quotas of resources: pure decisions, then refused over the bus on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.registry import quotas
from headgate_contracts import batch, power
from headgate_contracts.batch import BatchEndpointSpec
from headgate_contracts.errors import ErrorCode
from headgate_contracts.quotas import DeleteQuota, ListQuotas, PutQuota, Quota
from registry.harness import World, eventually, refused

HELD = {"a": {"blue": 3, "green": 1}, "b": {"blue": 2}, "c": {}}


def quota(kind: str, limit: float, **place: Any) -> Quota:
    return Quota.model_validate(
        {"workspace": "w", "name": "q", "kind": kind, "limit": limit, **place}
    )


@pytest.mark.parametrize(
    ("kind", "place", "uses"),
    [
        ("endpoints", {}, {("", ""): 3}),
        ("deployments", {}, {("", ""): 3}),
        ("deployments", {"endpoint": "*"}, {("a", ""): 2, ("b", ""): 1, ("c", ""): 0}),
        ("deployments", {"endpoint": "b"}, {("b", ""): 1}),
        ("instances", {}, {("", ""): 6}),
        ("instances", {"endpoint": "*"}, {("a", ""): 4, ("b", ""): 2, ("c", ""): 0}),
        (
            "instances",
            {"endpoint": "*", "deployment": "*"},
            {("a", "blue"): 3, ("a", "green"): 1, ("b", "blue"): 2},
        ),
        (
            "instances",
            {"endpoint": "*", "deployment": "blue"},
            {("a", "blue"): 3, ("b", "blue"): 2},
        ),
    ],
)
def test_a_place_counts_what_is_in_it(
    kind: str, place: dict[str, str], uses: dict[tuple[str, str], int]
) -> None:
    assert quotas.uses(quota(kind, 1, **place), HELD) == uses


def test_only_what_grows_beyond_a_quota_is_refused() -> None:
    """What is beyond already, since a quota has been lowered, may stay, shrink and be changed."""
    low = [quota("instances", 2)]
    assert quotas.exceeded(low, HELD, {**HELD, "a": {"blue": 2, "green": 1}}) is None
    assert quotas.exceeded(low, HELD, {**HELD, "a": {"blue": 1, "green": 3}}) is None
    found = quotas.exceeded(low, HELD, {**HELD, "c": {"red": 1}})
    assert found is not None and found.wanted == 7
    assert "7 instances in the workspace 'w'" in str(found.error())
    each = [quota("instances", 3, endpoint="*", deployment="*")]
    assert quotas.exceeded(each, HELD, {**HELD, "c": {"red": 3}}) is None
    found = quotas.exceeded(each, HELD, {**HELD, "c": {"red": 4}})
    assert found is not None and found.place == ("c", "red")
    assert found.event().deployment == "red"


@pytest.mark.parametrize(
    ("before", "after", "grows"),
    [
        (None, {}, True),
        ({}, None, False),
        ({}, {"blue": 0}, True),
        ({"blue": 2}, {"blue": 2}, False),
        ({"blue": 2}, {"blue": 3}, True),
        ({"blue": 2}, {"blue": 1}, False),
        ({"blue": 2, "green": 1}, {"blue": 2}, False),
    ],
)
def test_what_does_not_grow_is_not_looked_at(before: Any, after: Any, grows: bool) -> None:
    assert quotas.grows(before, after) is grows


# --- over the bus ------------------------------------------------------------------------------


async def put(world: World, name: str, kind: str, limit: float, **place: Any) -> Any:
    made = quota(kind, limit, **place).model_copy(
        update={"workspace": world.workspace, "name": name}
    )
    return await world.ask(PutQuota(quota=made))


async def used(world: World, name: str) -> dict[tuple[str, str], float]:
    reply = await world.ask(ListQuotas(workspace=world.workspace, name=name))
    return {(use.endpoint, use.deployment): use.used for use in reply.uses}


@pytest.mark.asyncio(loop_scope="session")
async def test_resources_are_refused_beyond_their_quota_and_not_before(
    world: World, unique: Any
) -> None:
    first, second, third = (unique("ep") for _ in range(3))
    await put(world, "two-endpoints", "endpoints", 2)
    await world.put_endpoint(first)
    await world.ask(
        batch.PutBatchEndpoint(workspace=world.workspace, spec=BatchEndpointSpec(name=second))
    )
    words = ("3 endpoints", "quota 'two-endpoints' allows 2")
    await refused(ErrorCode.QUOTA_EXCEEDED, world.put_endpoint(third), *words)
    spec = BatchEndpointSpec(name=third)
    command = batch.PutBatchEndpoint(workspace=world.workspace, spec=spec)
    await refused(ErrorCode.QUOTA_EXCEEDED, world.ask(command), *words)
    assert await used(world, "two-endpoints") == {("", ""): 2}
    await world.put_endpoint(first, description="what is there may be changed")
    await world.ask(DeleteQuota(workspace=world.workspace, name="two-endpoints"))
    await world.put_endpoint(third)


@pytest.mark.asyncio(loop_scope="session")
async def test_instances_are_counted_however_they_grow(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await put(world, "cap", "instances", 4, endpoint=name)
    blue = await world.deploy(name, "blue", instance_count=3)
    new = world.put_deployment(name, "green", instance_count=2)
    await refused(ErrorCode.QUOTA_EXCEEDED, new, "5 instances", f"endpoint {name!r}")
    await world.deploy(name, "green", instance_count=1)
    assert await used(world, "cap") == {(name, ""): 4}
    about = {"workspace": world.workspace, "endpoint": name, "name": "blue"}
    scale = power.ScaleDeployment(**about, instance_count=4)
    await refused(ErrorCode.QUOTA_EXCEEDED, world.ask(scale), "cap")
    stopped = (await world.ask(power.StopDeployment(**about))).deployment
    await world.report(stopped, "succeeded", ready_instances=0)
    assert await used(world, "cap") == {(name, ""): 1}
    await world.put_deployment(name, "red", instance_count=3)
    await refused(ErrorCode.QUOTA_EXCEEDED, world.ask(power.StartDeployment(**about)), "cap")
    assert (await world.deployment(name, "blue")).revision > blue.revision


@pytest.mark.asyncio(loop_scope="session")
async def test_one_of_two_at_once_is_refused(world: World, unique: Any) -> None:
    await put(world, "one", "endpoints", 1)
    made = await asyncio.gather(
        *(world.put_endpoint(unique("ep")) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(each, Exception) for each in made) == 3
    assert await used(world, "one") == {("", ""): 1}


@pytest.mark.asyncio(loop_scope="session")
async def test_routers_are_told_of_rates_at_once(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await put(world, "rps", "requests_per_second", 50, endpoint="*")
    await put(world, "month", "requests", 1_000, caller="k", window_s=3_600)
    await put(world, "elsewhere", "connections", 5, endpoint="another")
    await put(world, "no-rate", "endpoints", 5)

    async def kept() -> bool:
        route = await world.route(name)
        return bool(route) and {each.name for each in route.quotas} == {"rps", "month"}

    await eventually(kept)
    await world.ask(DeleteQuota(workspace=world.workspace, name="rps"))

    async def gone() -> bool:
        route = await world.route(name)
        return bool(route) and [each.name for each in route.quotas] == ["month"]

    await eventually(gone)
