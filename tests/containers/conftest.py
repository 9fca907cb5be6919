"""Tests with a real Docker engine; without one they are skipped, and say so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from containers.engine import IMAGE, answers
from containers.harness import ContainerWorld
from headgate.runtime import natsd
from headgate.runtime.settings import Settings


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The engine of this machine, with the image of the tests in it."""
    if not answers():
        pytest.skip("no Docker engine answers; tests/containers/engine.py starts one")
    client = docker.from_env(timeout=60)
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        pytest.skip(f"the engine has no image {IMAGE}; tests/containers/engine.py makes it")
    yield client
    client.close()


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(
        data=data_dir,
        driver="docker",
        docker_image=IMAGE,
        reconcile_s=0.2,
        restart_backoff_s=0.3,
        drain_timeout_s=5,
    )


@pytest.fixture
async def idle_world(
    engine: docker.DockerClient, settings: Settings
) -> AsyncIterator[ContainerWorld]:
    """Everything but the provisioner itself."""
    async with natsd.running(settings.data) as server:
        world = ContainerWorld(server, settings, "digits", engine)
        await world.open()
        try:
            yield world
        finally:
            await world.close()


@pytest.fixture
async def world(idle_world: ContainerWorld) -> ContainerWorld:
    await idle_world.start_provisioner()
    return idle_world
