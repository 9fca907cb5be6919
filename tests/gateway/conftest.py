"""A gateway on a real bus, with small services behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.harness import SCORING_URL, TOKEN, Api, Connect, World
from headgate.batch import app as batch_app
from headgate.gateway import app
from headgate.gateway.app import GatewayService
from headgate.registry import app as registry_app
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts import provisioning, refreshing, routing
from headgate_contracts.nodes import ListNodes


@pytest.fixture
async def connect(nats: RunningServer) -> AsyncIterator[Connect]:
    """``await connect("gateway")`` is a connection of that service to the shared server."""
    buses: list[Bus] = []

    async def connect_one(service: str) -> Bus:
        bus = await Bus.connect(service, nats.url, nats.creds(service), SystemClock())
        buses.append(bus)
        return bus

    yield connect_one
    for bus in buses:
        await bus.close()


@pytest.fixture
def settings(data_dir: Path, nats: RunningServer) -> Settings:
    keys = data_dir / "keys"
    keys.mkdir()
    (keys / app.TOKEN_FILE).write_text(f"{TOKEN}\n")
    return Settings(data=data_dir, nats=nats.url, port=0, failed_auth_per_minute=0)


@pytest.fixture
async def layout(connect: Connect) -> None:
    """Streams and buckets exist."""
    await bootstrap(await connect("bootstrap"))


@pytest.fixture
async def gateway(
    connect: Connect, settings: Settings, layout: None
) -> AsyncIterator[GatewayService]:
    """The gateway alone; nobody answers behind it unless another fixture does."""
    service = await app.build(
        settings, await connect("gateway"), SystemClock(), tls=None, scoring_url=SCORING_URL
    )
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def api(gateway: GatewayService) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(session, gateway.listener.url)


@pytest.fixture
async def registry(connect: Connect, settings: Settings, layout: None) -> AsyncIterator[Service]:
    """The real registry, with a database of its own."""
    service = await registry_app.build(settings, await connect("registry"), SystemClock())
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def batch(connect: Connect, settings: Settings, registry: Service) -> AsyncIterator[Service]:
    """The real batch service; nobody runs its nodes."""
    service = await batch_app.build(settings, await connect("batch"), SystemClock())
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def world(connect: Connect) -> AsyncIterator[World]:
    """A provisioner and a router that answer what the test says."""
    world = World(await connect("provisioner"))
    services = [
        Service(
            world.provisioner,
            description="stands for the provisioner",
            handlers={
                provisioning.ListInstances: world.list_instances,
                ListNodes: world.list_nodes,
                provisioning.GetLogs: world.get_logs,
                provisioning.GetCapacity: world.get_capacity,
                refreshing.RefreshEnvironments: world.refresh,
                refreshing.GetRefresh: world.get_refresh,
            },
        ),
        Service(
            await connect("router"),
            description="stands for a router",
            handlers={routing.GetTraffic: world.get_traffic},
            shared=False,
        ),
    ]
    for service in services:
        await service.start()
    yield world
    for service in services:
        await service.stop()
