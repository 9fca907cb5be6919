"""Containers that are killed and paused under load, and an engine that restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from acceptance.load import Load
from acceptance.models import deployment_file, endpoint_file
from acceptance.system import EventTail, Headgate, eventually, failures
from containers import engine
from headgate_contracts.provisioning import Instance

CONNECTIONS = 8
READY_S = 40.0  # a container's start on a machine that is busy
BACK_S = 15.0  # after an engine has come back, what was wanted is there, besides its own start
SCRIPT = """
import os

def init():
    pass

def run(raw_data):
    return os.environ["HOSTNAME"]
"""
QUICK = {
    "liveness_probe": {"initial_delay": 1, "period": 1, "timeout": 2, "failure_threshold": 2},
    "request_settings": {"max_concurrent_requests_per_instance": 8, "request_timeout_ms": 1000},
}
_numbers = count(1)


def docker(*arguments: str, host: str = "") -> list[str]:
    """Run one command of Docker's own client; the lines that it prints."""
    where = ["--host", host] if host else []
    done = subprocess.run(
        ["docker", *where, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


class Served:
    """Two containers that take all traffic of an endpoint."""

    def __init__(self, headgate: Headgate, folder: Path, host: str = "") -> None:
        self.headgate = headgate
        self.host = host
        self.endpoint = f"boxed-{next(_numbers)}"
        headgate.cli("online-endpoint", "create", "-f", endpoint_file(folder, self.endpoint))
        file = deployment_file(folder, self.endpoint, "blue", SCRIPT, instance_count=2, **QUICK)
        headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")

    def load(self) -> Load:
        target = self.headgate.target(self.endpoint)
        return Load(target, connections=CONNECTIONS, pause_s=0.002)

    async def ready(self) -> dict[str, Instance]:
        found = await self.headgate.instances(self.endpoint, "blue")
        return {each.id: each for each in found if each.state == "ready"}

    async def until_ready(self, count: int, *, without: str = "") -> dict[str, Instance]:
        """The ready instances, once there are so many and one is not among them."""
        async with asyncio.timeout(READY_S):
            while len(found := await self.ready()) != count or without in found:
                await asyncio.sleep(0.1)
        return found

    def container_of(self, instance: str) -> str:
        (found,) = self.containers(instance)
        return found

    def containers(self, instance: str = "") -> list[str]:
        """Those of the deployment that run, paused ones included."""
        labels = [f"label=io.headgate.endpoint={self.endpoint}"]
        labels += [f"label=io.headgate.instance={instance}"] if instance else []
        filters = [word for label in labels for word in ("--filter", label)]
        return docker("ps", "--quiet", *filters, host=self.host)


@contextlib.contextmanager
def headgate_on(host: str) -> Iterator[Headgate]:
    """A Headgate whose instances are containers of an engine."""
    variables = {"DOCKER_HOST": host} if host else {}
    headgate = Headgate(
        Path(tempfile.mkdtemp(prefix="hg-boxed-")),
        HEADGATE_DRIVER="docker",
        HEADGATE_DOCKER_IMAGE=engine.IMAGE,
        HEADGATE_RESTART_BACKOFF_S="0.5",
        **variables,
    )
    try:
        headgate.start()
        yield headgate
    finally:
        headgate.discard()


@pytest.fixture(scope="module")
def contained() -> Iterator[Headgate]:
    """A Headgate whose instances are containers."""
    if not engine.has_image():
        pytest.skip(f"no Docker engine with {engine.IMAGE}; tests/containers/engine.py starts one")
    with headgate_on(os.environ.get("DOCKER_HOST", "")) as found:
        yield found


@pytest.fixture
def served(contained: Headgate, files: Path) -> Iterator[Served]:
    found = Served(contained, files)
    yield found
    contained.cli("online-endpoint", "delete", "--name", found.endpoint, "--yes")


async def test_killing_one_of_two_containers_costs_no_request(served: Served) -> None:
    """The requests in its hands go to the other one; a new one comes."""
    victim = min(await served.until_ready(2))
    load = served.load()
    async with load.running():
        await load.reach(300)
        await asyncio.to_thread(docker, "kill", served.container_of(victim))
        await load.more(300)
        await served.until_ready(2, without=victim)
        await load.more(300)
    assert failures(load) == []
    only = ("--since", "1h", "--filter", f"instance.{served.endpoint}.>")
    with EventTail(served.headgate, *only) as tail:

        def reasons() -> list[str]:
            return [e["data"]["reason"] for e in tail.events if e["subject"].endswith(".lost")]

        (reason,) = await eventually(reasons, "the event")
    assert victim in reason and "SIGKILL" in reason


async def test_a_paused_container_is_left_out_found_dead_and_replaced(served: Served) -> None:
    """Only what it had in hand times out."""
    victim = min(await served.until_ready(2))
    container = served.container_of(victim)
    load = served.load()
    async with load.running():
        await load.reach(300)
        begun = time.monotonic()
        await asyncio.to_thread(docker, "pause", container)
        await asyncio.sleep(2.0)  # three heartbeats missed
        noticed = time.monotonic()
        await served.until_ready(2, without=victim)
        await load.more(300)
    assert set(load.statuses()) <= {200, 408}
    late = [shot for shot in load.shots if shot.status == 408]
    assert len(late) <= CONNECTIONS
    assert all(begun - 1 < shot.sent < noticed for shot in late)

    def is_gone() -> bool:
        return container not in served.containers()

    await eventually(is_gone, "the paused container is gone")


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_engine_restarts_under_load(number: signal.Signals, files: Path) -> None:
    """While it is away, containers that it has left running go on; afterwards all is as wanted."""
    if os.geteuid() != 0 or not engine.has_image():
        pytest.skip("only root can start a Docker engine beside the one that answers")
    with engine.apart() as own, headgate_on(own.host) as headgate:
        served = await asyncio.to_thread(Served, headgate, files, own.host)
        before = await served.until_ready(2)
        load = served.load()
        async with load.running():
            await load.reach(300)
            await asyncio.to_thread(own.stop, number)
            away = time.monotonic()
            await asyncio.sleep(3.0)
            back = time.monotonic()
            await asyncio.to_thread(own.start)
            began = time.monotonic()
            after: dict[str, Instance] = {}
            async with asyncio.timeout(READY_S + BACK_S):
                while len(after) != 2 or after.keys() & before.keys():
                    await asyncio.sleep(0.1)
                    after = await served.ready()
            well = time.monotonic()
            await load.more(500)
        assert set(load.statuses()) <= {200, 408, 502, 503}
        assert set(load.statuses(since=well)) == {200}
        if number is signal.SIGKILL:
            assert set(load.statuses(since=away, until=back)) == {200}, "they run without it"
        assert well - began < READY_S + BACK_S
        assert len(served.containers()) == 2
        print(f"\n{number.name}: {load.statuses()}, well again after {well - began:.1f} s")
