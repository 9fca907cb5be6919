"""Models, environments and code versions over the bus, the same on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_contracts import limits, registry
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import (
    CodeConfiguration,
    CodeSpec,
    EnvironmentBuild,
    EnvironmentSpec,
    InferenceConfig,
    InferenceRoute,
    ModelSpec,
)
from registry.harness import World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")


def put(world: World, spec: Any) -> Any:
    types = {
        ModelSpec: registry.PutModel,
        EnvironmentSpec: registry.PutEnvironment,
        CodeSpec: registry.PutCode,
    }
    return types[type(spec)](workspace=world.workspace, spec=spec)


def get(world: World, kind: Any, name: str, version: str = "@latest") -> registry.GetAsset:
    return registry.GetAsset(workspace=world.workspace, kind=kind, name=name, version=version)


def listing(world: World, kind: Any, **more: Any) -> registry.ListAssets:
    return registry.ListAssets(workspace=world.workspace, kind=kind, **more)


async def test_a_version_never_changes(world: World) -> None:
    spec = ModelSpec(name="digits", version="1", path="uploads/a")
    first = await world.ask(put(world, spec))
    assert first.created
    again = await world.ask(put(world, spec))
    assert not again.created
    assert again.model == first.model
    other = spec.model_copy(update={"path": "uploads/b"})
    await refused(ErrorCode.RESOURCE_EXISTS, world.ask(put(world, other)), "path", "new version")
    assert (await world.ask(get(world, "models", "digits"))).model == first.model


async def test_labels_of_a_version_may_change(world: World) -> None:
    spec = EnvironmentSpec(name="env", version="1", conda_file="name: x\n")
    first = (await world.ask(put(world, spec))).environment
    reply = await world.ask(put(world, spec.model_copy(update={"tags": {"a": "1"}})))
    assert not reply.created
    assert reply.environment.revision > first.revision
    stored = (await world.ask(get(world, "environments", "env", "1"))).environment
    assert stored.spec.tags == {"a": "1"}
    assert stored.created_at == first.created_at


async def test_versions_are_numbered_when_not_named(world: World) -> None:
    versions = []
    for version in ("", "", "7", "not-a-number", ""):
        spec = {"name": "m", "path": f"uploads/{len(versions)}"}
        spec |= {"version": version} if version else {}
        reply = await world.ask(put(world, ModelSpec(**spec)))
        versions.append(reply.model.spec.version)
    assert versions == ["1", "2", "7", "not-a-number", "8"]
    listed = (await world.ask(listing(world, "models", name="m"))).models
    assert [each.spec.version for each in listed] == versions[::-1]
    assert (await world.ask(get(world, "models", "m"))).model.spec.version == "8"


async def test_latest_is_the_newest_under_every_spelling(world: World) -> None:
    for version in ("2", "1"):
        await world.ask(put(world, ModelSpec(name="m", version=version, path="uploads/x")))
    for asked in ("@latest", "latest", ""):
        assert (await world.ask(get(world, "models", "m", asked))).model.spec.version == "1"
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(get(world, "models", "m", "3")))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(get(world, "environments", "m")))
    foreign = registry.GetAsset(workspace="other", kind="models", name="m")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(foreign))


async def test_lists_show_the_newest_of_each_name(world: World) -> None:
    for name, version in (("b", "1"), ("a", "1"), ("b", "2")):
        await world.ask(put(world, ModelSpec(name=name, version=version, path="uploads/x")))
    listed = (await world.ask(listing(world, "models"))).models
    assert [(each.spec.name, each.spec.version) for each in listed] == [("a", "1"), ("b", "2")]
    assert len((await world.ask(listing(world, "models", limit=1))).models) == 1


async def test_code_is_found_by_its_content(world: World) -> None:
    digest = "ab" * 32
    spec = CodeSpec(name="code", version="1", path="uploads/a", sha256=digest)
    await world.ask(put(world, spec))
    await world.ask(
        put(world, CodeSpec(name="code", version="2", path="uploads/b", sha256="cd" * 32))
    )
    found = (await world.ask(listing(world, "codes", sha256=digest))).codes
    assert [each.spec.version for each in found] == ["1"]
    elsewhere = spec.model_copy(update={"path": "uploads/elsewhere"})
    assert not (
        await world.ask(put(world, elsewhere))
    ).created  # the same files are the same version


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(name="m", path="uploads/../../etc"),
        ModelSpec(name="m", path=""),
        CodeSpec(name="c", path="a\0b"),
        EnvironmentSpec(name="e", build=EnvironmentBuild(path="..")),
        EnvironmentSpec(name="e", conda_file="x" * limits.SPEC_BYTES_MAX),
    ],
    ids=["escape", "empty", "nul", "build", "size"],
)
async def test_a_wrong_asset_is_refused(world: World, spec: Any) -> None:
    await refused(ErrorCode.BAD_ARGUMENT, world.ask(put(world, spec)))


async def test_a_deployment_keeps_the_versions_it_was_made_with(world: World, name: str) -> None:
    await world.ask(put(world, ModelSpec(name="m", version="1", path="uploads/m")))
    route = InferenceRoute(path="/v2/predict", port=8080)
    await world.ask(
        put(
            world,
            EnvironmentSpec(
                name="e", image="x", inference_config=InferenceConfig(scoring_route=route)
            ),
        )
    )
    await world.ask(put(world, CodeSpec(name="c", version="abc", path="uploads/c")))
    await world.put_endpoint(name)
    wanted = {
        "model": "azureml:m@latest",
        "environment": "azureml:e@latest",
        "code_configuration": CodeConfiguration(code="azureml:c:abc", scoring_script="s/score.py"),
    }
    made = await world.deploy(name, **wanted)
    assert made.spec.model == "azureml:m:1"
    assert made.spec.environment == "azureml:e:1"
    assert made.spec.code_configuration.code == "azureml:c:abc"
    table = await world.routed(name, lambda route: "blue" in route.deployments)
    assert table.deployments["blue"].scoring_path == "/v2/predict"
    again = (await world.put_deployment(name, **wanted)).deployment
    assert again == made
    await world.ask(put(world, ModelSpec(name="m", version="2", path="uploads/m2")))
    moved = (await world.put_deployment(name, **wanted)).deployment
    assert moved.spec.model == "azureml:m:2"
    assert moved.generation > made.generation


async def test_references_see_their_own_workspace_only(world: World, name: str) -> None:
    other = world.tenant(f"{world.workspace}-other")
    await world.ask(put(other, ModelSpec(name="m", version="1", path="uploads/m")))
    await world.put_endpoint(name)
    await refused(ErrorCode.BAD_ARGUMENT, world.put_deployment(name, model="azureml:m:1"))
