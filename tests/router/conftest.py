"""A router of each test's own, on the shared bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.router import app
from headgate.runtime import natsd
from router.stage import Stage, staged


@pytest.fixture(autouse=True)
def without_the_wait_before_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for what they need to be known instead."""
    monkeypatch.setattr(app, "LISTEN_BEFORE_SERVING_S", 0.0)


@pytest_asyncio.fixture
async def stage(nats: natsd.RunningServer, data_dir: Path) -> AsyncIterator[Stage]:
    async with staged(nats, data_dir) as made:
        yield made
