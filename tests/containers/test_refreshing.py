"""Base images that become other ones: what is built on them is built again, and rolled."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import registry as registries
from containers.harness import ContainerWorld
from containers.registry import Registry
from headgate_contracts.refreshing import LookState, RollState
from headgate_contracts.resources import ProvisioningState
from provisioner.packages import Index, index
from provisioner.test_refreshing import refresh

SAYS = """
import pathlib


def init():
    pass


def run(data):
    try:
        import hg_words
    except ImportError:
        return pathlib.Path("/said").read_text()
    return pathlib.Path("/said").read_text() + hg_words.SAID
"""


@pytest.fixture
def registry(world: ContainerWorld) -> Iterator[Registry]:
    if shutil.which(registries.PROGRAM) is None:
        pytest.skip(f"{registries.PROGRAM} is not installed; tests/containers/engine.py does that")
    with registries.registry(world.engine) as found:
        yield found


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path / "index") as found:
        found.publish("hg_words", "1.0", "SAID = 'a'\n")
        yield found


@pytest.mark.timeout(180)
async def test_deployments_follow_their_base_image(
    world: ContainerWorld, registry: Registry, shelf: Index
) -> None:
    old = await asyncio.to_thread(registry.publish, "one")
    base = f"{registry.name}:1"
    build = await world.context({"Dockerfile": f"FROM {base}\nCOPY x /x\n", "x": "y"}, "Dockerfile")
    environments = {
        "plain": await world.environment(image=base),
        "built": await world.environment(build=build),
        "packed": await world.environment(image=base, conda_file=shelf.conda_file("hg-words")),
    }
    code = await world.code(SAYS)
    for name, environment in environments.items():
        await world.put(name, code, environment=environment)
    for name in environments:
        done = await world.outcome(name)
        assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    assert [await world.score(0, name) for name in environments] == [
        (200, "one\n"),
        (200, "one\n"),
        (200, "one\na"),
    ]
    same = await refresh(world, within_s=60)
    assert [(look.state, look.unknown) for look in same.environments] == [(LookState.SAME, ())] * 3

    new = await asyncio.to_thread(registry.publish, "two")
    seen = await refresh(world, dry_run=True)
    assert [look.state for look in seen.environments] == [LookState.CHANGED] * 3
    assert all(base in look.changes[0] for look in seen.environments)
    assert world.engine.images.get(base).id == old, "a dry run pulls nothing"

    done = await refresh(world, within_s=120)
    rolls = [roll.state for look in done.environments for roll in look.deployments]
    assert rolls == [RollState.SUCCEEDED] * 3
    assert world.engine.images.get(base).id == new
    for name in environments:
        await world.ready(1, name)
    assert [await world.score(0, name) for name in environments] == [
        (200, "two\n"),
        (200, "two\n"),
        (200, "two\na"),
    ]

    # A change of packages alone, while the registry is away.
    registry.stop()
    shelf.publish("hg_words", "1.1", "SAID = 'b'\n")
    done = await refresh(world, within_s=60)
    looks = {look.deployments[0].deployment: look for look in done.environments}
    assert {name: look.state for name, look in looks.items()} == {
        "plain": LookState.SAME,
        "built": LookState.SAME,
        "packed": LookState.CHANGED,
    }
    assert all(base in look.unknown[0] for look in looks.values())
    assert looks["packed"].changes == ("hg-words==1.0 -> hg-words==1.1",)
    await world.ready(1, "packed")
    assert await world.score(0, "packed") == (200, "two\nb")


@pytest.mark.timeout(120)
async def test_an_image_of_this_machine_is_not_looked_for_elsewhere(
    world: ContainerWorld, registry: Registry
) -> None:
    """Whoever gives an image of theirs the same name elsewhere gets nothing started here."""
    name = "headgate-test-own"
    one = await asyncio.to_thread(registry.publish, "one")
    world.engine.images.get(one).tag(name, "1")
    environment = await world.environment(image=f"{name}:1")
    await world.deploy(SAYS, environment=environment)
    (same,) = (await refresh(world)).environments
    assert (same.state, same.unknown) == (LookState.SAME, ())
    two = await asyncio.to_thread(registry.publish, "two")
    world.engine.images.get(two).tag(name, "1")
    (seen,) = (await refresh(world, dry_run=True)).environments
    assert (seen.state, seen.unknown) == (LookState.CHANGED, ())
    (done,) = (await refresh(world)).environments
    assert [roll.state for roll in done.deployments] == [RollState.SUCCEEDED]
    await world.ready(1)
    assert await world.score(0) == (200, "two\n")
