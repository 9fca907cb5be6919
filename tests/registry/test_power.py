"""Stopped deployments as the registry keeps them."""

from __future__ import annotations

import pytest

from headgate_contracts import power
from headgate_contracts.errors import ErrorCode
from headgate_contracts.registry import DeploymentReply
from headgate_contracts.resources import OperationStatus, ProvisioningState
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = ProvisioningState


async def stop(world: World, endpoint: str, name: str = "blue", **more: int) -> DeploymentReply:
    command = power.StopDeployment(workspace=world.workspace, endpoint=endpoint, name=name, **more)
    reply: DeploymentReply = await world.ask(command)
    return reply


async def start(world: World, endpoint: str, name: str = "blue") -> DeploymentReply:
    command = power.StartDeployment(workspace=world.workspace, endpoint=endpoint, name=name)
    reply: DeploymentReply = await world.ask(command)
    return reply


async def test_a_stopped_deployment_keeps_its_traffic_and_comes_back(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    ready = await world.deploy(name)
    await world.put_endpoint(name, traffic={"blue": 100})
    stopping = await stop(world, name)
    assert stopping.deployment.is_stopped
    assert stopping.deployment.provisioning_state is S.UPDATING
    assert stopping.deployment.spec == ready.spec
    assert stopping.operation is not None
    route = await world.routed(name, lambda route: route.deployments["blue"].is_stopped)
    assert route.traffic == {"blue": 100}
    await world.report(stopping.deployment, "succeeded")
    ended = await world.operation(stopping.operation.id)
    assert ended.status is OperationStatus.SUCCEEDED
    stopped = await world.deployment(name)
    assert (stopped.provisioning_state, stopped.is_stopped) == (S.SUCCEEDED, True)
    assert stopped.ready_instances == 0
    await events.until("deployment_stopping", "deployment_stopped")

    starting = await start(world, name)
    assert starting.deployment.spec == ready.spec
    await world.report(starting.deployment, "succeeded", ready_instances=1)
    assert not (await world.deployment(name)).is_stopped
    await world.routed(name, lambda route: not route.deployments["blue"].is_stopped)
    await events.until("deployment_starting", "deployment_succeeded")


async def test_to_replace_a_stopped_deployment_does_not_start_it(world: World, name: str) -> None:
    """Whoever applies files describes what is deployed, not whether it runs now."""
    await world.put_endpoint(name)
    ready = await world.deploy(name)
    await world.report((await stop(world, name)).deployment, "succeeded")
    again = await world.put_deployment(
        name, **ready.spec.model_dump(exclude={"name", "endpoint_name"})
    )
    assert again.deployment.is_stopped
    changed = await world.put_deployment(name, environment_variables={"A": "1"})
    assert changed.deployment.is_stopped
    await world.report(changed.deployment, "succeeded")
    assert (await world.deployment(name)).is_stopped


async def test_what_is_so_already_stays_so(world: World, name: str) -> None:
    await world.put_endpoint(name)
    ready = await world.deploy(name)
    running = await start(world, name)
    assert running.deployment.revision == ready.revision
    assert running.operation is not None
    assert running.operation.status is OperationStatus.SUCCEEDED
    await world.report((await stop(world, name)).deployment, "succeeded")
    revision = (await world.deployment(name)).revision
    assert (await stop(world, name)).deployment.revision == revision


async def test_a_stopped_deployment_gets_no_more_traffic_than_it_had(
    world: World, name: str
) -> None:
    await world.put_endpoint(name)
    await world.deploy(name)
    await world.deploy(name, "green")
    await world.put_endpoint(name, traffic={"blue": 60, "green": 40})
    await world.report((await stop(world, name)).deployment, "succeeded")
    more = world.put_endpoint(name, traffic={"blue": 100})
    await refused(ErrorCode.RESOURCE_CONFLICT, more, "is stopped; start it first")
    await world.put_endpoint(name, traffic={"blue": 50, "green": 50})
    await world.put_endpoint(name, traffic={"green": 100})


async def test_a_stop_is_refused_where_a_change_would_be(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await refused(ErrorCode.RESOURCE_NOT_FOUND, stop(world, name), "no deployment 'blue'")
    made = await world.put_deployment(name)
    await refused(ErrorCode.RESOURCE_CONFLICT, stop(world, name), "is being created")
    await world.report(made.deployment, "succeeded", ready_instances=1)
    stale = stop(world, name, if_revision=1)
    await refused(ErrorCode.REVISION_MISMATCH, stale, "changed meanwhile")
    stranger = world.tenant("elsewhere")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, stop(stranger, name), "there is no endpoint")
    await world.delete_deployment(name)
    await refused(ErrorCode.RESOURCE_CONFLICT, stop(world, name), "is being deleted")
