"""Deployments that get a new build of their environment, as the registry keeps them."""

from __future__ import annotations

import pytest

from headgate_contracts.errors import ErrorCode
from headgate_contracts.refreshing import RefreshDeployment
from headgate_contracts.registry import DeploymentReply, PutEnvironment
from headgate_contracts.resources import EnvironmentSpec, OperationStatus, ProvisioningState
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = ProvisioningState


async def refresh(world: World, endpoint: str, build: str) -> DeploymentReply:
    command = RefreshDeployment(
        workspace=world.workspace, endpoint=endpoint, name="blue", build=build, changes=("a -> b",)
    )
    reply: DeploymentReply = await world.ask(command)
    return reply


async def test_a_refresh_is_an_update_that_changes_no_word_of_the_definition(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    ready = await world.deploy(name)
    begun = await refresh(world, name, "b1")
    assert begun.deployment.provisioning_state is S.UPDATING
    assert begun.deployment.generation > ready.generation
    assert begun.deployment.spec == ready.spec
    assert begun.operation is not None and begun.operation.kind == "update"
    conflict = refresh(world, name, "b2")
    await refused(ErrorCode.RESOURCE_CONFLICT, conflict, "is being updated")
    await world.report(begun.deployment, "succeeded", ready_instances=1)
    assert (await world.operation(begun.operation.id)).status is OperationStatus.SUCCEEDED
    await events.until("deployment_refreshing", "deployment_succeeded")

    again = await refresh(world, name, "b1")
    assert again.operation is not None and again.operation.status is OperationStatus.SUCCEEDED
    assert again.deployment.generation == begun.deployment.generation


async def test_the_build_stays_until_the_environment_is_another_one(
    world: World, name: str
) -> None:
    for version in ("1", "2"):
        spec = EnvironmentSpec(name=name, version=version, image="python:3.11")
        await world.ask(PutEnvironment(workspace=world.workspace, spec=spec))
    await world.put_endpoint(name)
    first = f"azureml:{name}:1"
    await world.deploy(name, environment=first)
    await world.report((await refresh(world, name, "b1")).deployment, "succeeded")
    changed = await world.put_deployment(name, environment=first, instance_count=2)
    assert changed.deployment.environment_build == "b1"
    await world.report(changed.deployment, "succeeded")
    other = await world.put_deployment(name, environment=f"azureml:{name}:2")
    assert other.deployment.environment_build == ""


async def test_what_is_not_there_is_not_refreshed(world: World, name: str) -> None:
    await refused(ErrorCode.RESOURCE_NOT_FOUND, refresh(world, name, "b1"), "no endpoint")
    await world.put_endpoint(name)
    await refused(ErrorCode.RESOURCE_NOT_FOUND, refresh(world, name, "b1"), "no deployment 'blue'")
