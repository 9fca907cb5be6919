"""Containers that are killed, paused or removed, a relay that ends, an engine that goes away."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator

import docker
import pytest

from containers.engine import Daemon, apart
from containers.harness import ContainerWorld
from headgate.runtime import natsd, procs
from headgate.runtime.settings import Settings
from headgate_contracts.resources import Probe, ProvisioningState
from provisioner.harness import GOOD, eventually, kill

QUICK = Probe(initial_delay=1, period=1, timeout=1, failure_threshold=3)
GROWS = """
def init():
    pass


def run(data):
    kept = []
    while True:
        kept.append(bytearray(8_000_000))
"""


async def test_a_killed_container_is_replaced_at_once(world: ContainerWorld) -> None:
    await world.deploy(GOOD, instance_count=2)
    before = await world.ready(2)
    victim = before[0]
    (container,) = [c for c in world.containers() if victim.id in c.name]
    container.kill("SIGKILL")
    await world.lost(victim.id)
    assert (await world.score(1))[0] == 200  # the other one
    after = await world.ready(2)
    assert before[1].id in {i.id for i in after}
    assert "signal SIGKILL" in await world.reason_of_end(victim)
    await eventually(lambda: asyncio.sleep(0, len(world.containers()) == 2))


async def test_a_removed_container_is_replaced(world: ContainerWorld) -> None:
    await world.deploy(GOOD)
    (before,) = await world.ready(1)
    (container,) = world.containers()
    container.remove(force=True)
    await world.replaced(before)
    assert "SIGKILL" in (said := await world.reason_of_end(before)) or "removed" in said


async def test_a_paused_container_is_found_out_and_replaced(world: ContainerWorld) -> None:
    await world.deploy(GOOD, liveness_probe=QUICK)
    (before,) = await world.ready(1)
    (container,) = world.containers()
    container.pause()
    await world.replaced(before)
    await world.lost(before.id)
    assert "no sign of life" in await world.reason_of_end(before)
    await eventually(lambda: asyncio.sleep(0, len(world.containers()) == 1))


async def test_more_memory_than_allowed_is_told_with_the_limit(world: ContainerWorld) -> None:
    await world.deploy(GROWS, instance_type="Standard_F2s_v2")
    (before,) = await world.ready(1)
    (container,) = world.containers()
    container.update(mem_limit="64m", memswap_limit="64m")  # so that the test needs little
    asking = asyncio.ensure_future(world.score({}))
    await world.replaced(before)
    asking.cancel()
    said = await world.reason_of_end(before)
    assert "memory" in said
    assert "64 MiB" in said or "0.06" in said


async def test_requests_are_answered_again_when_the_relay_was_killed(
    world: ContainerWorld,
) -> None:
    await world.deploy(GOOD)
    (before,) = await world.ready(1)
    record = world.settings.data / "run" / "containers" / "relay.json"
    old = record.read_text()
    kill(world.relay())

    async def answered() -> bool:
        try:
            return (await world.score(1))[0] == 200
        except Exception:
            return False

    await eventually(answered)
    assert record.read_text() != old
    assert [i.id for i in await world.ready(1)] == [before.id]


# --- an engine that goes away ------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_engine(engine: docker.DockerClient) -> Iterator[Daemon]:
    """A second engine, which the tests may stop."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("only root can start a Docker engine, and dockerd must be installed")
    with apart() as daemon:
        yield daemon


@pytest.fixture
async def own_world(
    own_engine: Daemon, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ContainerWorld]:
    monkeypatch.setenv("DOCKER_HOST", own_engine.host)
    client = docker.DockerClient(base_url=own_engine.host, timeout=60)
    async with natsd.running(settings.data) as server:
        world = ContainerWorld(server, settings, "digits", client)
        await world.open()
        await world.start_provisioner()
        try:
            yield world
        finally:
            await world.close()
            client.close()
    gc.collect()


# The library leaves its sockets open when an engine goes away.
leaky = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@leaky
@pytest.mark.timeout(150)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_engine_that_restarts_gets_its_instances_back(
    own_world: ContainerWorld, own_engine: Daemon, number: signal.Signals
) -> None:
    world = own_world
    await world.deploy(GOOD, egress_public_network_access="disabled")
    (before,) = await world.ready(1)
    await asyncio.to_thread(own_engine.stop, number)
    await asyncio.to_thread(own_engine.start)
    after = await world.replaced(before)
    assert "Docker engine" in await world.reason_of_end(before)
    assert (await world.score(1))[0] == 200
    running = [c for c in world.containers() if c.status == "running"]
    assert len(running) == 1 and after.id in running[0].name
    assert (await world.outcome()).provisioning_state is ProvisioningState.SUCCEEDED


@leaky
@pytest.mark.timeout(150)
async def test_scoring_goes_on_while_the_engine_is_away(
    own_world: ContainerWorld, own_engine: Daemon
) -> None:
    """Killed, it leaves its containers running, and so do we: who they are is written down."""
    world = own_world
    await world.deploy(GOOD, egress_public_network_access="disabled")
    (before,) = await world.ready(1)
    await asyncio.to_thread(own_engine.stop, signal.SIGKILL)
    try:
        assert (await world.score(1))[0] == 200
        await world.stop_provisioner()
        await world.start_provisioner()
        assert [i.id for i in await world.ready(1)] == [before.id]
        assert (await world.score(1))[0] == 200
    finally:
        await asyncio.to_thread(own_engine.start)
    await world.replaced(before)
    assert procs.stat(before.pid) is None
