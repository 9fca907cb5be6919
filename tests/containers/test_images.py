"""Environments of containers: images with packages of a conda file, and from a Dockerfile."""

from __future__ import annotations

import json

import docker
import pytest

from containers.engine import IMAGE
from containers.harness import ContainerWorld
from headgate_contracts.resources import ProvisioningState

CONDA = """
name: model
dependencies:
  - python=3.11
  - pip
  - pip:
    - tabulate>=0.9
"""
USES_TABULATE = """
import shutil, sys


def init():
    pass


def run(data):
    import tabulate
    return {
        "table": tabulate.tabulate([[1]], tablefmt="plain"),
        "python": sys.executable,
        "program": shutil.which("tabulate"),
    }
"""
SAYS = """
import pathlib


def init():
    pass


def run(data):
    return pathlib.Path("/said").read_text()
"""


def remove_built(engine: docker.DockerClient, words: str) -> None:
    """So that a build is one, also when the tests have run before."""
    for image in engine.images.list(filters={"label": "io.headgate.environment"}):
        history = json.dumps(image.history())
        if words in history:
            engine.images.remove(image.id, force=True)


@pytest.mark.timeout(180)
async def test_packages_of_a_conda_file_are_put_on_the_image(world: ContainerWorld) -> None:
    remove_built(world.engine, "/opt/headgate/venv")
    environment = await world.environment(image=IMAGE, conda_file=CONDA)
    await world.put(code=await world.code(USES_TABULATE), environment=environment)
    done = await world.outcome(within_s=120)
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    status, said = await world.score({})
    assert status == 200
    assert said["table"] == "1"
    assert said["python"] == "/opt/headgate/venv/bin/python"
    assert said["program"] == "/opt/headgate/venv/bin/tabulate"
    log = (await world.logs(container="storage-initializer", tail=1000)).content
    assert "tabulate" in log
    await world.put("green", await world.code(USES_TABULATE), environment=environment)
    await world.outcome("green")
    log = (await world.logs("green", container="storage-initializer", tail=1000)).content
    assert "is here already" in log


async def test_a_package_that_does_not_exist_fails_with_the_end_of_the_log(
    world: ContainerWorld,
) -> None:
    conda = CONDA.replace("tabulate>=0.9", "no-such-package-of-anybody==7")
    environment = await world.environment(image=IMAGE, conda_file=conda)
    done = await world.deploy(USES_TABULATE, environment=environment)
    assert done.error is not None
    assert done.error.code == "ImageBuildFailure"
    assert "no-such-package-of-anybody" in done.error.message


async def test_a_dockerfile_is_built_with_its_context(world: ContainerWorld) -> None:
    build = await world.context(
        {"docker/Dockerfile": f"FROM {IMAGE}\nCOPY words.txt /said\n", "words.txt": "from afar"},
        "docker/Dockerfile",
    )
    environment = await world.environment(build=build)
    done = await world.deploy(SAYS, environment=environment)
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    assert await world.score({}) == (200, "from afar")


async def test_a_dockerfile_that_fails_is_told_with_the_end_of_its_log(
    world: ContainerWorld,
) -> None:
    text = f"FROM {IMAGE}\nRUN echo before && ls /not/here\n"
    build = await world.context({"Dockerfile": text}, "Dockerfile")
    done = await world.deploy(SAYS, environment=await world.environment(build=build))
    assert done.error is not None
    assert done.error.code == "ImageBuildFailure"
    assert "/not/here" in done.error.message
