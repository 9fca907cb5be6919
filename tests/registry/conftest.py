"""A registry on a real bus, on each kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from databases import KINDS, fresh_url
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.settings import Settings
from registry.harness import EventLog, World


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, data_dir: Path) -> Settings:
    return Settings(data=data_dir, database=fresh_url(request.param, data_dir))


@pytest.fixture
async def idle_world(nats: RunningServer, settings: Settings) -> AsyncIterator[World]:
    """Everything but the registry itself: a test starts it when it wants."""
    boot = await Bus.connect("bootstrap", nats.url, nats.creds("bootstrap"), SystemClock())
    await bootstrap(boot)
    await boot.close()
    probe = await Bus.connect("probe", nats.url, nats.creds("probe"), SystemClock())
    world = World(nats, settings, probe)
    yield world
    await world.stop()
    await probe.close()


@pytest.fixture
async def world(idle_world: World) -> World:
    await idle_world.start()
    return idle_world


@pytest.fixture
def name(unique: Callable[[str], str]) -> str:
    """An endpoint name of this test's own."""
    return unique("ep")


@pytest.fixture
def events(idle_world: World, name: str) -> EventLog:
    return EventLog(idle_world.probe, name)
