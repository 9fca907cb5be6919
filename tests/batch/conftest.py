"""A house of services per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batch.house import House, house
from databases import fresh_url


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Services with files of SQLite, or on the kind of database that the test asks for."""
    kind = getattr(request, "param", "")
    async with house(tmp_path, database=fresh_url(kind, tmp_path) if kind else "") as found:
        yield found
