"""An autoscaler with the real registry beside it, on each kind of database."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from autoscaler.world import World
from databases import KINDS, fresh_url

_numbers = count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world() -> AsyncIterator[World]:
    async with made("sqlite") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=KINDS)
async def any_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """For what is about the database."""
    async with made(request.param) as one:
        yield one


@asynccontextmanager
async def made(kind: str) -> AsyncIterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="hg-scale-"))
    async with World.of(fresh_url(kind, folder), folder) as one:
        yield one


@pytest.fixture
def name() -> Iterator[str]:
    yield f"ep-{next(_numbers)}"
