"""Batch endpoints and deployments over the bus, the same on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio

from headgate.registry import batch as decisions
from headgate.registry.records import Moment
from headgate_contracts import batch, limits, registry
from headgate_contracts.batch import (
    BatchDefaults,
    BatchDeployment,
    BatchDeploymentSpec,
    BatchEndpoint,
    BatchEndpointSpec,
)
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import (
    CodeConfiguration,
    CodeSpec,
    EnvironmentSpec,
    ModelSpec,
    OperationStatus,
)
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODE = CodeConfiguration(code="azureml:c:1", scoring_script="batch_driver.py")
RUNNABLE: dict[str, Any] = {
    "model": "azureml:m@latest",
    "environment": "azureml:e:1",
    "code_configuration": CODE,
}


@pytest_asyncio.fixture(loop_scope="session")
async def assets(world: World) -> None:
    """What deployments of this workspace refer to."""
    await register_assets(world)


async def register_assets(world: World) -> None:
    model = ModelSpec(name="m", version="1", path="uploads/m")
    mlflow = ModelSpec(name="flow", version="1", path="uploads/f", type="mlflow_model")
    for spec in (model, mlflow):
        await world.ask(registry.PutModel(workspace=world.workspace, spec=spec))
    environment = EnvironmentSpec(name="e", version="1", image="i")
    await world.ask(registry.PutEnvironment(workspace=world.workspace, spec=environment))
    code = CodeSpec(name="c", version="1", path="uploads/c")
    await world.ask(registry.PutCode(workspace=world.workspace, spec=code))


async def put(world: World, name: str, default: str | None = None, **more: Any) -> Any:
    flags = {key: more.pop(key) for key in ("create_only", "if_revision", "by") if key in more}
    spec = BatchEndpointSpec(name=name, defaults=BatchDefaults(deployment_name=default), **more)
    return await world.ask(batch.PutBatchEndpoint(workspace=world.workspace, spec=spec, **flags))


async def deploy(world: World, endpoint: str, name: str = "one", **more: Any) -> Any:
    flags = {key: more.pop(key) for key in ("create_only", "if_revision", "by") if key in more}
    spec = BatchDeploymentSpec(name=name, endpoint_name=endpoint, **{**RUNNABLE, **more})
    return await world.ask(batch.PutBatchDeployment(workspace=world.workspace, spec=spec, **flags))


async def get(world: World, name: str) -> BatchEndpoint:
    query = batch.GetBatchEndpoint(workspace=world.workspace, name=name)
    found: BatchEndpoint = (await world.ask(query)).endpoint
    return found


async def deployments(world: World, endpoint: str) -> tuple[BatchDeployment, ...]:
    query = batch.ListBatchDeployments(workspace=world.workspace, endpoint=endpoint)
    found: tuple[BatchDeployment, ...] = (await world.ask(query)).deployments
    return found


async def delete(world: World, name: str) -> Any:
    command = batch.DeleteBatchEndpoint(workspace=world.workspace, name=name)
    return (await world.ask(command)).operation


async def delete_deployment(world: World, endpoint: str, name: str = "one") -> Any:
    command = batch.DeleteBatchDeployment(workspace=world.workspace, endpoint=endpoint, name=name)
    return (await world.ask(command)).operation


# --- endpoints ---------------------------------------------------------------------------------


async def test_an_endpoint_is_kept_as_it_was_wanted(world: World, name: str) -> None:
    reply = await put(world, name, description="by night", tags={"a": "1"}, by="ann")
    assert reply.created
    assert reply.endpoint.created_by == reply.endpoint.updated_by == "ann"
    assert await get(world, name) == reply.endpoint
    again = await put(world, name, description="by night", tags={"a": "1"}, by="bob")
    assert not again.created
    assert again.endpoint == reply.endpoint
    changed = (await put(world, name, description="by day", by="bob")).endpoint
    assert changed.revision > reply.endpoint.revision
    assert (changed.created_by, changed.updated_by) == ("ann", "bob")
    assert changed.created_at == reply.endpoint.created_at


async def test_every_operation_has_succeeded_at_once(world: World, name: str, assets: None) -> None:
    done = [
        (await put(world, name)).operation,
        (await deploy(world, name)).operation,
        (await put(world, name, "one")).operation,
        (await put(world, name)).operation,
        await delete_deployment(world, name),
        await delete(world, name),
    ]
    for operation in done:
        assert operation.status is OperationStatus.SUCCEEDED
        assert await world.operation(operation.id) == operation
    assert [each.kind for each in done] == [
        "create", "create", "update", "update", "delete", "delete",
    ]  # fmt: skip
    assert done[1].resource == f"batchEndpoints/{name}/deployments/one"


async def test_revisions_guard_against_lost_updates(world: World, name: str) -> None:
    first = (await put(world, name)).endpoint
    await refused(ErrorCode.RESOURCE_EXISTS, put(world, name, create_only=True), name)
    await put(world, name, description="new", if_revision=first.revision)
    late = put(world, name, description="newer", if_revision=first.revision)
    await refused(ErrorCode.REVISION_MISMATCH, late, str(first.revision))
    absent = put(world, f"{name}x", if_revision=1)
    await refused(ErrorCode.REVISION_MISMATCH, absent, "does not exist")


async def test_properties_can_only_be_added(world: World, name: str, assets: None) -> None:
    await put(world, name, properties={"a": "1"})
    assert (await put(world, name, properties={"b": "2"})).endpoint.spec.properties == {
        "a": "1",
        "b": "2",
    }
    await refused(ErrorCode.BAD_ARGUMENT, put(world, name, properties={"a": "2"}), "'a'")
    await deploy(world, name, properties={"a": "1"})
    changed = deploy(world, name, properties={"a": "2"})
    await refused(ErrorCode.BAD_ARGUMENT, changed, "'a'")


async def test_the_default_must_exist(world: World, name: str, assets: None) -> None:
    error = await refused(ErrorCode.BAD_ARGUMENT, put(world, name, "one"), "create the deployment")
    assert error.error.target == "defaults.deployment_name"
    await put(world, name)
    await refused(ErrorCode.BAD_ARGUMENT, put(world, name, "one"))
    await deploy(world, name)
    assert (await put(world, name, "one")).endpoint.spec.defaults.deployment_name == "one"


async def test_online_and_batch_endpoints_share_their_names(world: World, name: str) -> None:
    await put(world, name)
    await refused(ErrorCode.RESOURCE_EXISTS, world.put_endpoint(name), "taken")
    await delete(world, name)
    await world.put_endpoint(name)
    await refused(ErrorCode.RESOURCE_EXISTS, put(world, name), "taken")


async def test_two_at_once_cannot_both_have_the_name(world: World, name: str) -> None:
    results = await asyncio.gather(
        put(world, name), world.put_endpoint(name), return_exceptions=True
    )
    assert sum(isinstance(each, BaseException) for each in results) == 1


async def test_other_workspaces_see_nothing_and_cannot_take_the_name(
    world: World, name: str, assets: None, unique: Callable[[str], str]
) -> None:
    await put(world, name)
    await deploy(world, name)
    other = world.tenant(unique("ws"))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, get(other, name))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, deployments(other, name))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, deploy(other, name, model=None))
    await refused(ErrorCode.RESOURCE_EXISTS, put(other, name), "taken")
    assert await delete(other, name) is None
    assert await delete_deployment(other, name) is None
    assert len(await deployments(world, name)) == 1


async def test_endpoints_are_listed_in_pages(world: World, unique: Callable[[str], str]) -> None:
    names = sorted(unique("be") for _ in range(3))
    for name in names:
        await put(world, name)
    query = batch.ListBatchEndpoints(workspace=world.workspace, limit=2)
    first = await world.ask(query)
    rest = await world.ask(query.model_copy(update={"after": first.after}))
    assert [each.spec.name for each in (*first.endpoints, *rest.endpoints)] == names
    assert (first.after, rest.after) == (names[1], "")


# --- deployments -------------------------------------------------------------------------------


async def test_references_become_exact_versions(world: World, name: str, assets: None) -> None:
    await put(world, name)
    spec = (await deploy(world, name)).deployment.spec
    assert spec.model == "azureml:m:1"
    newer = ModelSpec(name="m", version="2", path="uploads/m2")
    await world.ask(registry.PutModel(workspace=world.workspace, spec=newer))
    assert (await deployments(world, name))[0].spec.model == "azureml:m:1"
    assert (await deploy(world, name)).deployment.spec.model == "azureml:m:2"
    unknown = deploy(world, name, environment="azureml:nobody:1")
    error = await refused(ErrorCode.BAD_ARGUMENT, unknown, "nobody")
    assert error.error.target == "environment"


async def test_only_mlflow_models_do_without_script_and_environment(
    world: World, name: str, assets: None
) -> None:
    await put(world, name)
    bare = {"environment": None, "code_configuration": None}
    await deploy(world, name, "flow", model="azureml:flow:1", **bare)
    for field in bare:
        error = await refused(ErrorCode.BAD_ARGUMENT, deploy(world, name, **{field: None}), field)
        assert error.error.target == field
    await refused(ErrorCode.BAD_ARGUMENT, deploy(world, name, model=None), "needs a model")
    outside = CodeConfiguration(code="azureml:c:1", scoring_script="../x.py")
    await refused(ErrorCode.BAD_ARGUMENT, deploy(world, name, code_configuration=outside))


async def test_the_default_stays_until_another_is_it(world: World, name: str, assets: None) -> None:
    await put(world, name)
    for each in ("one", "two"):
        await deploy(world, name, each)
    await put(world, name, "one")
    await refused(
        ErrorCode.RESOURCE_CONFLICT, delete_deployment(world, name), "default", "--defaults"
    )
    await put(world, name, "two")
    assert await delete_deployment(world, name) is not None
    assert await delete_deployment(world, name) is None
    assert [each.spec.name for each in await deployments(world, name)] == ["two"]


async def test_deployments_per_endpoint_are_bounded(
    world: World, name: str, assets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEPLOYMENTS_PER_ENDPOINT_MAX", 2)
    await put(world, name)
    for each in ("one", "two"):
        await deploy(world, name, each)
    await refused(ErrorCode.QUOTA_EXCEEDED, deploy(world, name, "three"), "2 is the most")
    await deploy(world, name, "two", description="still possible")


async def test_names_that_begin_alike_are_kept_apart(world: World, name: str, assets: None) -> None:
    for endpoint in (name, f"{name}x"):
        await put(world, endpoint)
        await deploy(world, endpoint)
    await delete(world, name)
    assert len(await deployments(world, f"{name}x")) == 1
    await put(world, name)
    assert await deployments(world, name) == ()


async def test_everything_is_told(world: World, name: str, assets: None, events: EventLog) -> None:
    await put(world, name)
    await deploy(world, name)
    await deploy(world, name, mini_batch_size=7)
    await deploy(world, name, mini_batch_size=7)
    await put(world, name, "one")
    await delete(world, name)
    told = await events.until("batch_deployment_deleted", "batch_endpoint_deleted")
    assert told == [
        "batch_endpoint_created",
        "batch_deployment_created",
        "batch_deployment_updated",
        "batch_endpoint_updated",
        "batch_deployment_deleted",
        "batch_endpoint_deleted",
    ]
    found = await events.all()
    assert found[2][1]["fields"] == ["mini_batch_size"]
    assert found[3][1]["fields"] == ["defaults"]
    revisions = [data["revision"] for _, data, _ in found]
    assert revisions == sorted(revisions)


async def test_everything_survives_a_restart(own_world: World, name: str) -> None:
    await own_world.start()
    await register_assets(own_world)
    await put(own_world, name)
    await deploy(own_world, name)
    kept = await put(own_world, name, "one")
    before = await deployments(own_world, name)
    await own_world.stop()
    await own_world.start()
    assert await get(own_world, name) == kept.endpoint
    assert await deployments(own_world, name) == before
    assert await own_world.operation(kept.operation.id) == kept.operation


async def test_one_quota_counts_both_kinds_of_endpoints() -> None:
    command = batch.PutBatchEndpoint(workspace="w", spec=BatchEndpointSpec(name="night"))
    full = Moment(1.0, 1, "dice", endpoints=limits.ENDPOINTS_MAX)

    async def decide() -> None:
        decisions.put_endpoint(None, command, full)

    await refused(ErrorCode.QUOTA_EXCEEDED, decide(), "endpoints")
