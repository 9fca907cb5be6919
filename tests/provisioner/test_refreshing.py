"""Refreshes: environments are resolved again, and what has changed is rolled with care."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.provisioner import core
from headgate.provisioner.image_recipes import bases_of
from headgate.provisioner.made import Made, changes
from headgate.provisioner.refreshing import uses_of
from headgate.provisioner.state import Recipe
from headgate.runtime.settings import Settings
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.refreshing import (
    GetRefresh,
    LookState,
    Refresh,
    RefreshEnvironments,
    RollState,
)
from headgate_contracts.resources import (
    Deployment,
    DeploymentSpec,
    EnvironmentSpec,
    ProvisioningState,
)
from provisioner.harness import WORKSPACE, World, eventually
from provisioner.packages import Index, index

SAYS = """
import hg_words


def init():
    pass


def run(data):
    return hg_words.SAID
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path / "index") as found:
        found.publish("hg_words", "1.0", "SAID = 'one'\n")
        yield found


async def refresh(world: World, *, within_s: float = 30.0, **fields: object) -> Refresh:
    """A refresh, once it is over."""
    command = RefreshEnvironments.model_validate({"workspace": WORKSPACE, **fields})
    begun = (await world.ask(command)).refresh

    async def look() -> Refresh | None:
        query = GetRefresh(workspace=WORKSPACE, refresh_id=begun.id)
        found: Refresh = (await world.ask(query)).refresh
        return found if found.ended_at is not None else None

    found = await eventually(look, within_s=within_s)
    assert found is not None
    return found


async def deploy(world: World, environment: str, name: str = "blue", **fields: object) -> None:
    await world.put(name, await world.code(SAYS), environment=environment, **fields)
    done = await world.outcome(name)
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error


async def test_what_has_changed_is_rolled_and_nothing_else(world: World, shelf: Index) -> None:
    loose = await world.environment(conda_file=shelf.conda_file("hg-words"))
    fixed = await world.environment(conda_file=shelf.conda_file("hg-words==1.0"))
    await deploy(world, loose, instance_count=2)
    await deploy(world, fixed, "green")
    before = {each.id for each in await world.ready(2)}
    generation = (await world.deployment()).generation

    same = await refresh(world)
    assert [look.state for look in same.environments] == [LookState.SAME] * 2
    assert (await world.deployment()).generation == generation

    shelf.publish("hg_words", "1.1", "SAID = 'two'\n")
    seen = await refresh(world, dry_run=True)
    assert [look.state for look in seen.environments] == [LookState.CHANGED, LookState.SAME]
    assert seen.environments[0].changes == ("hg-words==1.0 -> hg-words==1.1",)
    assert [roll.state for roll in seen.environments[0].deployments] == [RollState.WAITING]
    assert (await world.deployment()).generation == generation

    done = await refresh(world)
    rolled = done.environments[0]
    assert [(r.deployment, r.state) for r in rolled.deployments] == [("blue", RollState.SUCCEEDED)]
    after = await world.ready(2)
    assert before.isdisjoint(each.id for each in after)
    assert await world.score(0) == (200, "two")
    assert await world.score(0, "green") == (200, "one")
    assert [look.state for look in (await refresh(world)).environments] == [LookState.SAME] * 2


async def test_a_version_keeps_its_environment_until_it_is_refreshed(
    world: World, shelf: Index
) -> None:
    """More instances, a restart of ours, and another deployment make no difference to it."""
    environment = await world.environment(conda_file=shelf.conda_file("hg-words"))
    await deploy(world, environment)
    await deploy(world, environment, "green")
    shelf.publish("hg_words", "1.1", "raise ImportError('this release is broken')\n")
    done = await refresh(world)
    states = {roll.deployment: roll.state for roll in done.environments[0].deployments}
    assert states == {"blue": RollState.FAILED, "green": RollState.FAILED}
    fault = done.environments[0].deployments[0].error
    assert fault is not None and "this release is broken" in fault.message
    assert (await world.deployment()).provisioning_state is ProvisioningState.FAILED
    assert await world.score(0) == (200, "one")

    again = await refresh(world)
    assert [look.state for look in again.environments] == [LookState.SAME]
    await world.stop_provisioner()
    await world.start_provisioner()
    await world.ready(1)
    assert await world.score(0) == (200, "one")

    shelf.publish("hg_words", "1.2", "SAID = 'mended'\n")
    mended = await refresh(world, name="env")
    assert {roll.state for roll in mended.environments[0].deployments} == {RollState.SUCCEEDED}
    await world.ready(1)
    assert await world.score(0) == (200, "mended")
    await world.change(instance_count=2)
    await world.ready(2)
    assert await world.score(0) == (200, "mended")


async def test_what_cannot_be_resolved_any_more_goes_on(world: World, shelf: Index) -> None:
    environment = await world.environment(conda_file=shelf.conda_file("hg-words"))
    await deploy(world, environment)
    for wheel in shelf.place("hg_words").iterdir():
        wheel.unlink()
    done = await refresh(world)
    (look,) = done.environments
    assert look.state is LookState.FAILED
    assert look.error is not None and look.error.code is ErrorCode.IMAGE_BUILD_FAILURE
    assert "hg-words" in look.error.message
    assert (await world.deployment()).provisioning_state is ProvisioningState.SUCCEEDED
    assert await world.score(0) == (200, "one")


async def test_the_schedule_needs_nobody_to_ask(
    idle_world: World, settings: Settings, shelf: Index
) -> None:
    world = idle_world
    world.settings = settings.model_copy(update={"environment_refresh_hours": 0.5 / 3600})
    await world.start_provisioner()
    environment = await world.environment(conda_file=shelf.conda_file("hg-words"))
    await deploy(world, environment)
    shelf.publish("hg_words", "2.0", "SAID = 'by itself'\n")

    async def rolled() -> bool:
        return bool((await world.deployment()).environment_build)

    await eventually(rolled)
    await world.outcome()
    await world.ready(1)
    assert await world.score(0) == (200, "by itself")


async def test_others_see_no_refresh_and_only_so_many_wait(world: World, shelf: Index) -> None:
    environment = await world.environment(conda_file=shelf.conda_file("hg-words"))
    await deploy(world, environment)
    mine = (await world.ask(RefreshEnvironments(workspace=WORKSPACE, dry_run=True))).refresh
    with pytest.raises(HeadgateError) as caught:
        await world.ask(GetRefresh(workspace="elsewhere", refresh_id=mine.id))
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    elsewhere = RefreshEnvironments(workspace="elsewhere", dry_run=True)
    asked = (world.ask(elsewhere) for _ in range(2 * limits.REFRESHES_WAITING_MAX + 2))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [each for each in answers if isinstance(each, HeadgateError)]
    assert refused
    assert {each.error.code for each in refused} == {ErrorCode.QUOTA_EXCEEDED}

    async def had_its_turn() -> bool:
        with contextlib.suppress(HeadgateError):
            return (await refresh(world, dry_run=True)).ended_at is not None
        return False

    assert await eventually(had_its_turn)


# --- pure --------------------------------------------------------------------------------------


def test_changes_are_named_by_what_has_changed() -> None:
    before = Made(
        id="sha256:" + "a" * 64,
        images={"python:3.11": "sha256:" + "1" * 64},
        packages=("numpy==1.0", "old==3", "same==1"),
    )
    after = Made(
        id="sha256:" + "b" * 64,
        images={"python:3.11": "sha256:" + "2" * 64},
        packages=("new @ https://example.org/new.whl", "numpy==2.0", "same==1"),
    )
    assert changes(before, before) == ()
    assert changes(before, after) == (
        "python:3.11 111111111111 -> python:3.11 222222222222",
        "+ new @ https://example.org/new.whl",
        "numpy==1.0 -> numpy==2.0",
        "- old==3",
    )


def test_many_changes_are_told_shortly() -> None:
    many = tuple(f"package-{n:03}=={'1' * 500}" for n in range(200))
    told = changes(Made(id="a"), Made(id="b", packages=many))
    assert len(told) == limits.ENVIRONMENT_CHANGES_MAX
    assert told[-1] == f"and {200 - len(told) + 1} more"
    assert max(map(len, told)) <= limits.ENVIRONMENT_CHANGE_CHARS_MAX


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM python:3.11", ["python:3.11"]),
        ("# FROM comment\nfrom --platform=linux/amd64 a:1 as build\nFROM build\n", ["a:1"]),
        ("ARG TAG=3.11\nARG HOST\nFROM ${HOST:-quay.io}/python:$TAG", ["quay.io/python:3.11"]),
        ("ARG WHICH\nFROM $WHICH\nFROM b", ["b"]),
        ("FROM a AS x\nFROM scratch\nCOPY --from=x /a /a\nCOPY --from=0 /b /b", ["a"]),
        ("FROM a\nCOPY --chown=1:1 --from=tools:2 /bin/t /bin/t\nFROM a", ["a", "tools:2"]),
        ("", []),
    ],
)
def test_the_bases_of_a_dockerfile_are_found(text: str, bases: list[str]) -> None:
    assert list(bases_of(text)) == bases


def test_what_is_in_use_is_grouped_by_what_it_runs_on() -> None:
    def deployment(name: str, workspace: str = WORKSPACE) -> Deployment:
        spec = DeploymentSpec(name=name, endpoint_name="digits", environment="azureml:env:1")
        return Deployment(workspace=workspace, spec=spec)

    old, new = Made(id="old"), Made(id="new")
    environment = EnvironmentSpec(name="env", version="1", conda_file="")
    parts = {"blue": old, "green": old, "red": new, "grey": None, "pink": old}
    deployments = [deployment(name) for name in parts]
    deployments[4] = deployments[4].model_copy(
        update={"provisioning_state": ProvisioningState.DELETING}
    )
    recipes = {
        (("digits", each.spec.name), core.version_of(each)): Recipe(
            deployment=each.spec, environment=environment, made=parts[each.spec.name]
        )
        for each in deployments
    }
    found = uses_of(deployments, recipes, RefreshEnvironments(name="env"))
    names = {use.made.id: [d.spec.name for d in use.deployments] for use in found}
    assert names == {"old": ["blue", "green"], "new": ["red"]}
    for nothing in ({"name": "other"}, {"version": "2"}, {"workspace": "elsewhere"}):
        assert uses_of(deployments, recipes, RefreshEnvironments(**nothing)) == []
