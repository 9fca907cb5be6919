"""The number of instances when the autoscaler sets it, and what an operator may do meanwhile."""

from __future__ import annotations

import pytest

from headgate_contracts import limits, power
from headgate_contracts.errors import ErrorCode
from headgate_contracts.registry import DeploymentReply
from headgate_contracts.resources import OperationStatus, ProvisioningState, ScaleSettings
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = ProvisioningState
TARGET = ScaleSettings(type="target_utilization", min_instances=0, max_instances=8)


async def scale(world: World, endpoint: str, count: int, **more: int) -> DeploymentReply:
    command = power.ScaleDeployment(
        workspace=world.workspace, endpoint=endpoint, name="blue", instance_count=count, **more
    )
    reply: DeploymentReply = await world.ask(command)
    return reply


async def test_a_new_count_is_a_change_of_size_and_nothing_else(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    ready = await world.deploy(name)
    scaled = (await scale(world, name, 4, if_count=1)).deployment
    assert scaled.provisioning_state is S.SCALING and scaled.generation > ready.generation
    assert scaled.spec == ready.spec.model_copy(update={"instance_count": 4})
    await events.until("deployment_updated")
    await world.report(ready, "succeeded", ready_instances=1)
    assert (await world.deployment(name)).provisioning_state is S.SCALING  # the size before
    more = (await scale(world, name, 5)).deployment
    assert more.provisioning_state is S.SCALING
    await world.report(more, "succeeded", ready_instances=5)
    assert (await world.deployment(name)).provisioning_state is S.SUCCEEDED
    zero = (await scale(world, name, 0)).deployment
    await world.report(zero, "succeeded", ready_instances=0)
    found = await world.deployment(name)
    assert (found.provisioning_state, found.ready_instances) == (S.SUCCEEDED, 0)
    assert (await scale(world, name, 0)).deployment.revision == found.revision


async def test_an_operator_need_not_wait_for_the_autoscaler(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await world.deploy(name)
    await scale(world, name, 3)
    changed = await world.put_deployment(name, instance_count=3, environment_variables={"A": "1"})
    assert changed.deployment.provisioning_state is S.UPDATING
    resized = (await scale(world, name, 2)).deployment
    assert resized.provisioning_state is S.UPDATING
    assert resized.generation == changed.deployment.generation  # the roll-out goes on as it was
    await world.report(resized, "succeeded", ready_instances=2)
    assert changed.operation is not None
    ended = await world.operation(changed.operation.id)
    assert ended.status is OperationStatus.SUCCEEDED


async def test_what_cannot_be_scaled_is_refused(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await world.deploy(name)
    await refused(
        ErrorCode.RESOURCE_CONFLICT, scale(world, name, 2, if_count=3), "has 1 instances, not 3"
    )
    await world.ask(power.StopDeployment(workspace=world.workspace, endpoint=name, name="blue"))
    await refused(ErrorCode.RESOURCE_CONFLICT, scale(world, name, 2), "is stopped")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, scale(world.tenant("other"), name, 1))


async def test_the_count_of_a_deployment_that_follows_its_load_is_not_the_operators(
    world: World, name: str
) -> None:
    await world.put_endpoint(name)
    made = await world.deploy(name, scale_settings=TARGET, instance_count=20)
    assert made.spec.instance_count == 8
    await world.report((await scale(world, name, 3)).deployment, "succeeded", ready_instances=3)
    again = await world.put_deployment(name, scale_settings=TARGET, instance_count=20)
    assert again.deployment.spec.instance_count == 3
    assert again.operation is not None and again.operation.status is OperationStatus.SUCCEEDED
    narrower = TARGET.model_copy(update={"max_instances": 2})
    bounded = await world.put_deployment(name, scale_settings=narrower, instance_count=20)
    assert bounded.deployment.spec.instance_count == 2
    route = await world.routed(name, lambda route: route.deployments["blue"].instances_max == 2)
    blue = route.deployments["blue"]
    assert (blue.held_max, blue.hold_s) == (limits.HELD_REQUESTS_DEFAULT, limits.HOLD_S)


async def test_a_new_version_of_a_deployment_without_instances_gets_one(
    world: World, name: str
) -> None:
    await world.put_endpoint(name)
    await world.deploy(name, scale_settings=TARGET)
    await world.report((await scale(world, name, 0)).deployment, "succeeded", ready_instances=0)
    same = await world.put_deployment(name, scale_settings=TARGET, instance_count=1)
    assert same.deployment.spec.instance_count == 0
    other = await world.put_deployment(
        name, scale_settings=TARGET, environment_variables={"A": "1"}
    )
    assert other.deployment.spec.instance_count == 1


async def test_bounds_that_are_none_are_refused(world: World, name: str) -> None:
    await world.put_endpoint(name)
    wrong = ScaleSettings(type="target_utilization", min_instances=5, max_instances=2)
    asked = world.put_deployment(name, scale_settings=wrong)
    await refused(ErrorCode.BAD_ARGUMENT, asked, "must not be below the least")
