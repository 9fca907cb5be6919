"""Who made and changed a resource, and which scoring tokens an endpoint has ended."""

from __future__ import annotations

import pytest

from headgate_contracts import registry
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import (
    AuthMode,
    DeploymentSpec,
    EndpointSpec,
    KeyType,
    ModelSpec,
)
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")


def replacement(world: World, name: str) -> registry.RegenerateKey:
    return registry.RegenerateKey(
        workspace=world.workspace, endpoint=name, key_type=KeyType.PRIMARY
    )


async def test_who_made_and_who_changed_an_endpoint_is_kept(world: World, name: str) -> None:
    def command(by: str, description: str) -> registry.PutEndpoint:
        spec = EndpointSpec(name=name, description=description)
        return registry.PutEndpoint(workspace=world.workspace, spec=spec, by=by)

    made = (await world.ask(command("ann", "one"))).endpoint
    assert (made.created_by, made.updated_by) == ("ann", "ann")
    unchanged = (await world.ask(command("bob", "one"))).endpoint
    assert unchanged == made
    await world.ask(command("bob", "two"))
    changed = await world.endpoint(name)
    assert (changed.created_by, changed.updated_by) == ("ann", "bob")


async def test_a_report_of_the_provisioner_is_no_change_by_anybody(world: World, name: str) -> None:
    await world.put_endpoint(name)
    spec = DeploymentSpec(name="blue", endpoint_name=name)
    command = registry.PutDeployment(workspace=world.workspace, spec=spec, by="ann")
    reply = await world.ask(command)
    assert (reply.deployment.created_by, reply.deployment.updated_by) == ("ann", "ann")
    await world.report(reply.deployment, "succeeded", ready_instances=1)
    settled = await world.deployment(name)
    assert (settled.created_by, settled.updated_by) == ("ann", "ann")


async def test_who_registered_an_asset_is_kept(world: World, name: str) -> None:
    spec = ModelSpec(name=name, path="uploads/x")
    command = registry.PutModel(workspace=world.workspace, spec=spec, by="ann")
    await world.ask(command)
    query = registry.GetAsset(workspace=world.workspace, kind="models", name=name)
    model = (await world.ask(query)).model
    assert model is not None
    assert (model.created_by, model.updated_by) == ("ann", "ann")


async def test_replacing_a_key_ends_all_tokens_of_a_token_endpoint(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name, auth_mode=AuthMode.AML_TOKEN)
    before = await world.routed(name, lambda route: True)
    await world.ask(replacement(world, name))
    after = await world.routed(
        name, lambda route: route.tokens_not_before > before.tokens_not_before
    )
    assert after.auth_mode == "aml_token"
    await events.until("key_regenerated")


async def test_replacing_a_key_of_a_key_endpoint_says_nothing_of_tokens(
    world: World, name: str
) -> None:
    await world.put_endpoint(name)
    before = await world.routed(name, lambda route: True)
    await world.ask(replacement(world, name))
    after = await world.routed(name, lambda route: route.keys != before.keys)
    assert after.tokens_not_before == before.tokens_not_before


async def test_an_endpoint_of_directory_tokens_has_nothing_to_replace(
    world: World, name: str
) -> None:
    stored = (await world.put_endpoint(name, auth_mode=AuthMode.AAD_TOKEN)).endpoint
    error = await refused(
        ErrorCode.BAD_ARGUMENT, world.ask(replacement(world, name)), "aad_token", "revoke"
    )
    assert error.error.target == "auth_mode"
    assert await world.endpoint(name) == stored


async def test_tokens_of_an_endpoint_do_not_open_a_later_one_of_its_name(
    world: World, name: str
) -> None:
    await world.put_endpoint(name, auth_mode=AuthMode.AML_TOKEN)
    old = await world.routed(name, lambda route: True)
    assert old.tokens_not_before > 0
    await world.delete_endpoint(name)
    await world.unrouted(name)
    await world.put_endpoint(name, auth_mode=AuthMode.AML_TOKEN)
    new = await world.routed(name, lambda route: True)
    assert new.tokens_not_before > old.tokens_not_before


async def test_routers_know_which_endpoints_are_public(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await world.routed(name, lambda route: route.is_public)
    await world.put_endpoint(name, public_network_access="disabled")
    await world.routed(name, lambda route: not route.is_public)
