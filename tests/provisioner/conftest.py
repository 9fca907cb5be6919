"""A world per test, with a bus of its own: some tests stop parts of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headgate.runtime import natsd
from headgate.runtime.settings import Settings
from provisioner.harness import World


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data=data_dir, reconcile_s=0.2, restart_backoff_s=0.3, drain_timeout_s=5)


@pytest.fixture
async def idle_world(settings: Settings) -> AsyncIterator[World]:
    """Everything but the provisioner itself."""
    async with natsd.running(settings.data) as server:
        world = World(server, settings, "digits")
        await world.open()
        try:
            yield world
        finally:
            await world.close()


@pytest.fixture
async def world(idle_world: World) -> World:
    await idle_world.start_provisioner()
    return idle_world
