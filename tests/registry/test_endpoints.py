"""Endpoints over the bus, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headgate_contracts import registry
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import (
    EndpointKeys,
    EndpointSpec,
    Identity,
    KeyType,
    OperationStatus,
    ProvisioningState,
)
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = ProvisioningState


async def test_an_endpoint_is_created_updated_and_read(world: World, name: str) -> None:
    made = await world.put_endpoint(name, tags={"team": "vision"})
    assert made.created
    assert made.operation is not None
    assert made.operation.status is OperationStatus.SUCCEEDED
    assert (await world.operation(made.operation.id)) == made.operation
    changed = await world.put_endpoint(name, description="digits")
    assert not changed.created
    assert changed.endpoint.spec.tags == {}  # a put replaces
    assert changed.endpoint.revision > made.endpoint.revision
    assert await world.endpoint(name) == changed.endpoint


async def test_the_same_again_changes_nothing(world: World, name: str, events: EventLog) -> None:
    first = await world.put_endpoint(name)
    again = await world.put_endpoint(name)
    assert again.endpoint == first.endpoint
    assert again.operation is not None
    assert again.operation.status is OperationStatus.SUCCEEDED
    await world.put_endpoint(name, description="x")
    assert await events.until("endpoint_updated") == ["endpoint_created", "endpoint_updated"]


async def test_create_only_refuses_what_exists(world: World, name: str) -> None:
    spec = EndpointSpec(name=name)
    command = registry.PutEndpoint(workspace=world.workspace, spec=spec, create_only=True)
    await world.ask(command)
    await refused(ErrorCode.RESOURCE_EXISTS, world.ask(command), "exists already")


async def test_of_two_writers_with_one_revision_one_wins(world: World, name: str) -> None:
    stored = (await world.put_endpoint(name)).endpoint
    commands = [
        registry.PutEndpoint(
            workspace=world.workspace,
            spec=EndpointSpec(name=name, description=f"writer {number}"),
            if_revision=stored.revision,
        )
        for number in range(6)
    ]
    results = await asyncio.gather(*map(world.ask, commands), return_exceptions=True)
    winners = [result for result in results if isinstance(result, registry.EndpointReply)]
    losers = [result for result in results if isinstance(result, HeadgateError)]
    assert len(winners) == 1
    assert {loser.error.code for loser in losers} == {ErrorCode.REVISION_MISMATCH}
    assert await world.endpoint(name) == winners[0].endpoint


async def test_a_revision_never_fits_a_later_resource_of_the_same_name(
    world: World, name: str
) -> None:
    old = (await world.put_endpoint(name)).endpoint
    await world.delete_endpoint(name)
    command = registry.PutEndpoint(
        workspace=world.workspace, spec=EndpointSpec(name=name), if_revision=old.revision
    )
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(command), "does not exist")
    new = (await world.put_endpoint(name)).endpoint
    assert new.revision > old.revision
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(command), str(new.revision))


@pytest.mark.parametrize(
    ("before", "after", "target"),
    [
        ({"auth_mode": "key"}, {"auth_mode": "aml_token"}, "auth_mode"),
        ({}, {"identity": Identity(type="user_assigned")}, "identity"),
        ({}, {"compute": "azureml:cluster"}, "compute"),
        ({"properties": {"a": "1"}}, {"properties": {"a": "2"}}, "properties.a"),
    ],
)
async def test_what_is_fixed_at_creation_cannot_change(
    world: World, name: str, before: dict[str, Any], after: dict[str, Any], target: str
) -> None:
    stored = (await world.put_endpoint(name, **before)).endpoint
    error = await refused(ErrorCode.BAD_ARGUMENT, world.put_endpoint(name, **after))
    assert error.error.target == target
    assert await world.endpoint(name) == stored


async def test_properties_are_only_added(world: World, name: str) -> None:
    await world.put_endpoint(name, properties={"a": "1"})
    changed = await world.put_endpoint(name, properties={"b": "2"})
    assert changed.endpoint.spec.properties == {"a": "1", "b": "2"}


async def test_what_a_client_sends_back_as_default_identity_is_no_change(
    world: World, name: str
) -> None:
    stored = (await world.put_endpoint(name)).endpoint
    again = await world.put_endpoint(name, identity=Identity(type="system_assigned"))
    assert again.endpoint == stored


async def test_names_are_unique_but_other_workspaces_stay_unseen(world: World, name: str) -> None:
    await world.put_endpoint(name)
    other = world.tenant(f"{world.workspace}-other")
    await refused(ErrorCode.RESOURCE_EXISTS, other.put_endpoint(name), "taken")
    texts = set()
    for asked in (name, f"{name}-x"):
        error = await refused(ErrorCode.RESOURCE_NOT_FOUND, other.endpoint(asked))
        texts.add(str(error).replace(asked, "NAME"))
    assert len(texts) == 1  # a foreign endpoint and no endpoint read the same
    absent, about = ErrorCode.RESOURCE_NOT_FOUND, {"workspace": other.workspace, "endpoint": name}
    await refused(absent, other.put_deployment(name))
    await refused(absent, other.deployment(name))
    await refused(absent, other.keys(name))
    await refused(absent, world.ask(registry.RegenerateKey(**about)))
    await refused(absent, world.ask(registry.ListDeployments(**about)))
    assert await other.delete_endpoint(name) is None
    assert await other.delete_deployment(name) is None
    listed = await world.ask(registry.ListEndpoints(workspace=other.workspace))
    assert listed.endpoints == ()
    assert (await world.endpoint(name)).spec.name == name


async def test_lists_come_in_pages_by_name(world: World, unique: Callable[[str], str]) -> None:
    names = sorted(unique("page") for _ in range(5))
    for each in names:
        await world.put_endpoint(each)
    seen: list[str] = []
    after = ""
    while True:
        query = registry.ListEndpoints(workspace=world.workspace, after=after, limit=2)
        page = await world.ask(query)
        seen += [endpoint.spec.name for endpoint in page.endpoints]
        after = page.after
        if not after:
            break
    assert sorted(seen) == names
    assert len(seen) == len(set(seen))


async def test_deleting_an_endpoint_without_deployments_is_immediate(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    await world.routed(name, lambda route: True)
    operation = await world.delete_endpoint(name)
    assert operation is not None
    assert operation.status is OperationStatus.SUCCEEDED
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.endpoint(name))
    assert await world.delete_endpoint(name) is None
    await world.unrouted(name)
    await events.until("endpoint_created", "endpoint_deleted")


async def test_deleting_an_endpoint_takes_its_deployments_along(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    blue, green = await world.deploy(name, "blue"), await world.deploy(name, "green")
    await world.put_endpoint(name, traffic={"blue": 90, "green": 10})
    operation = await world.delete_endpoint(name)
    assert operation is not None
    assert operation.status is OperationStatus.IN_PROGRESS
    await world.unrouted(name)  # at once, while instances still run
    assert (await world.endpoint(name)).provisioning_state is S.DELETING
    assert (await world.deployment(name, "blue")).provisioning_state is S.DELETING
    assert await world.delete_endpoint(name) == operation
    await refused(ErrorCode.RESOURCE_CONFLICT, world.put_endpoint(name), operation.id)
    await refused(ErrorCode.RESOURCE_CONFLICT, world.put_deployment(name, "red"), operation.id)
    await world.report(blue, "gone")
    assert (await world.operation(operation.id)).status is OperationStatus.IN_PROGRESS
    await world.report(green, "gone")
    assert (await world.operation(operation.id)).status is OperationStatus.SUCCEEDED
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.endpoint(name))
    await events.until("deployment_deleted", "deployment_deleted", "endpoint_deleted")
    assert (await world.put_endpoint(name)).created  # the name is free again


# --- keys ---


async def test_keys_are_random_and_reach_the_routers_as_digests(world: World, name: str) -> None:
    await world.put_endpoint(name)
    keys = await world.keys(name)
    assert keys.primary_key != keys.secondary_key
    route = await world.routed(name, lambda route: len(route.keys) == 2)
    assert keys.primary_key not in route.model_dump_json()
    assert keys.primary_key.split("_")[1] == route.keys[0].id


async def test_a_regenerated_key_replaces_one_and_keeps_the_other(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    old = await world.keys(name)
    before = await world.routed(name, lambda route: True)
    command = registry.RegenerateKey(
        workspace=world.workspace,
        endpoint=name,
        key_type=KeyType.SECONDARY,
        value=old.secondary_key,
    )  # clients send the current value back; it means "a new one"
    new = (await world.ask(command)).keys
    assert new.primary_key == old.primary_key
    assert new.secondary_key not in (old.secondary_key, old.primary_key)
    assert await world.keys(name) == new
    after = await world.routed(name, lambda route: route.keys != before.keys)
    assert after.keys[0] == before.keys[0]
    assert after.revision > before.revision
    await events.until("key_regenerated")


async def test_a_user_may_bring_keys_but_no_weak_ones(world: World, name: str) -> None:
    def creation(primary: str, secondary: str) -> registry.PutEndpoint:
        return registry.PutEndpoint(
            workspace=world.workspace,
            spec=EndpointSpec(name=name),
            keys=EndpointKeys(primary_key=primary, secondary_key=secondary),
        )

    for primary, secondary in [("a" * 31, "b" * 32), ("a" * 32, "a" * 32), ("ä" * 32, "b" * 32)]:
        bad = world.ask(creation(primary, secondary))
        await refused(ErrorCode.BAD_ARGUMENT, bad)
    await world.ask(creation("a" * 32, "b" * 32))
    await world.ask(creation("c" * 32, "d" * 32))  # counts at creation only
    assert await world.keys(name) == EndpointKeys(primary_key="a" * 32, secondary_key="b" * 32)
    change = registry.RegenerateKey(workspace=world.workspace, endpoint=name, value="e" * 32)
    assert (await world.ask(change)).keys.primary_key == "e" * 32
    for value in ("short", "b" * 32):
        change = registry.RegenerateKey(workspace=world.workspace, endpoint=name, value=value)
        await refused(ErrorCode.BAD_ARGUMENT, world.ask(change))


async def test_stored_keys_cannot_be_read_without_the_master_key(
    own_world: World, name: str
) -> None:
    world = own_world
    await world.start()
    await world.put_endpoint(name)
    route = await world.routed(name, lambda route: True)
    await world.stop()
    (world.settings.keys_dir / "master.key").write_text("ab" * 32)
    await world.start()
    error = await refused(ErrorCode.INTERNAL, world.keys(name), "master.key", "regenerate")
    assert error.error.target == "primary"
    for key_type in KeyType:
        command = registry.RegenerateKey(
            workspace=world.workspace, endpoint=name, key_type=key_type
        )
        await asyncio.gather(world.ask(command), return_exceptions=True)
    assert (await world.keys(name)).primary_key.startswith("hg_")
    await world.routed(name, lambda now: not set(now.keys) & set(route.keys))
