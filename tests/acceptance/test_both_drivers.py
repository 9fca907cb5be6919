"""The same life of a deployment on both drivers: instances as processes and as containers."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.load import Load
from acceptance.models import deployment_file, endpoint_file
from acceptance.system import EventTail, Headgate, failures, wait_for
from acceptance.test_large_bodies import PATIENT, SCRIPT, exchange_ninety_megabytes
from containers import engine

VERSION = """
import json, os

def init():
    print("this is", {version!r})

def run(raw_data):
    return {{"version": {version!r}, "id": json.loads(raw_data).get("id")}}
"""
BROKEN = """
def init():
    raise ValueError("not today")

def run(raw_data):
    pass
"""
CRASHES = """
import os

def init():
    os._exit(7)

def run(raw_data):
    pass
"""
GROWS = """
def init():
    pass

def run(raw_data):
    kept = []
    while True:
        kept.append(bytearray(16_000_000))
"""
_numbers = count(1)


@pytest.fixture(scope="module", params=["process", "docker"])
def system(request: pytest.FixtureRequest) -> Iterator[Headgate]:
    """A Headgate whose instances are of one kind."""
    if request.param == "docker" and not engine.has_image():
        pytest.skip(f"no Docker engine with {engine.IMAGE}; tests/containers/engine.py starts one")
    headgate = Headgate(Path(tempfile.mkdtemp(prefix="hg-both-")))
    sizes = {"driver": request.param, "docker_image": engine.IMAGE, "restart_backoff_s": 0.5}
    (headgate.data / "headgate.yaml").write_text(yaml.safe_dump(sizes))
    try:
        headgate.start()
        yield headgate
        headgate.stop()
        assert headgate.processes() == {}
        assert engine.containers_of(headgate.data) == []
    finally:
        headgate.discard()


class Life:
    """An endpoint of a test's own."""

    def __init__(self, headgate: Headgate, folder: Path) -> None:
        self.headgate = headgate
        self.folder = folder
        self.endpoint = f"both-{next(_numbers)}"
        headgate.cli("online-endpoint", "create", "-f", endpoint_file(folder, self.endpoint))

    def file(self, script: str, **fields: Any) -> Path:
        return deployment_file(self.folder, self.endpoint, "blue", script, **fields)

    def create(self, script: str, **fields: Any) -> None:
        path = self.file(script, **fields)
        self.headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")

    def show(self) -> dict[str, Any]:
        named = ("--endpoint-name", self.endpoint, "--name", "blue")
        shown: dict[str, Any] = self.headgate.cli_json("online-deployment", "show", *named)
        return shown

    def instances(self) -> list[Any]:
        return [
            i
            for i in asyncio.run(self.headgate.instances(self.endpoint, "blue"))
            if i.state == "ready"
        ]


@pytest.fixture
def life(system: Headgate) -> Iterator[Life]:
    folder = Path(tempfile.mkdtemp(prefix="hg-files-"))
    found = Life(system, folder)
    yield found
    system.cli("online-endpoint", "delete", "--name", found.endpoint, "--yes")
    shutil.rmtree(folder, ignore_errors=True)


async def answers_of(load: Load, begin: int) -> set[str]:
    return {json.loads(shot.body)["version"] for shot in load.shots[begin:] if shot.body}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_deployment_lives(life: Life) -> None:
    """Deploy, score, scale, update under load, a failing update that rolls back, delete."""
    cli = life.headgate.cli
    await asyncio.to_thread(life.create, VERSION.format(version="one"), instance_count=1)
    named = ("--endpoint-name", life.endpoint, "--name", "blue")
    load = Load(life.headgate.target(life.endpoint), connections=4, pause_s=0.002)
    async with load.running():
        await load.reach(100)
        await asyncio.to_thread(
            cli, "online-deployment", "update", *named, "--set", "instance_count=2"
        )
        assert len(await asyncio.to_thread(life.instances)) == 2
        await load.more(100)
        path = life.file(VERSION.format(version="two"), instance_count=2)
        await asyncio.to_thread(cli, "online-deployment", "update", "-f", path)
        await load.more(100)
        path = life.file(BROKEN, instance_count=2)
        failed = await asyncio.to_thread(
            life.headgate.try_cli, "online-deployment", "update", "-f", path
        )
        assert failed.returncode != 0
        assert "not today" in failed.stdout + failed.stderr
        begin = len(load.shots)
        await load.more(100)
    assert failures(load) == []
    assert await answers_of(load, begin + 8) == {"two"}
    assert await answers_of(load, 0) == {"one", "two"}
    await asyncio.to_thread(life.headgate.set_traffic, life.endpoint, "blue=0")
    await asyncio.to_thread(cli, "online-deployment", "delete", *named, "--yes")
    assert not await asyncio.to_thread(life.instances)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_large_bodies_pass(life: Life) -> None:
    life.create(SCRIPT, **PATIENT)
    exchange_ninety_megabytes(life.headgate, life.headgate.target(life.endpoint))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_crash_loop_ends_in_failed_with_the_reason(life: Life) -> None:
    created = life.headgate.try_cli("online-deployment", "create", "-f", life.file(CRASHES))
    assert created.returncode != 0
    assert "exit status 7" in created.stdout + created.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_instance_over_its_memory_is_replaced_with_the_figures(life: Life) -> None:
    life.create(GROWS, instance_type="tiny")
    (before,) = life.instances()
    request = life.folder / "request.json"
    request.write_text("{}")
    with EventTail(life.headgate) as tail:
        invoke = ("online-endpoint", "invoke", "--name", life.endpoint, "--request-file", request)
        life.headgate.try_cli(*invoke)
        wait_for(lambda: [i for i in life.instances() if i.id != before.id], "another")
        reasons = wait_for(lambda: _reasons(tail, before.id), "a reason")
    assert "its limit of 512 MiB" in reasons[0]


def _reasons(tail: EventTail, instance: str) -> list[str]:
    """Why an instance was lost, from the events."""
    lost = [event for event in tail.events if event["subject"].endswith(".lost")]
    return [text for text in map(json.dumps, lost) if instance in text]
