"""A registry on a real bus of its own, on each kind of database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from databases import KINDS, fresh_url
from registry.harness import EventLog, World


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=KINDS)
async def shared_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="hg-"))
    try:
        async with World.of(fresh_url(request.param, folder), folder) as world:
            await world.start()
            yield world
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(shared_world: World, unique: Callable[[str], str]) -> World:
    """A workspace of this test's own in a registry that all tests share."""
    return shared_world.tenant(unique("ws"))


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def own_world(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[World]:
    """A registry of this test's own, not started yet, to be stopped and broken at will."""
    async with World.of(fresh_url(request.param, data_dir), data_dir) as world:
        yield world


@pytest.fixture
def name(unique: Callable[[str], str]) -> str:
    """An endpoint name of this test's own."""
    return unique("ep")


@pytest.fixture
def events(request: pytest.FixtureRequest, name: str) -> EventLog:
    """The events about the endpoint ``name`` in this test's world."""
    kind = "own_world" if "own_world" in request.fixturenames else "world"
    world: World = request.getfixturevalue(kind)
    return EventLog(world.probe, name)
