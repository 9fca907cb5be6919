"""The logs service on either database and a real bus, with writers that say what tests want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.logs import app
from headgate_contracts.logs import ConsoleRow, LogRowsReply, QueryLogs, TrafficRow
from one_service import OneService, kind

__all__ = ["kind"]  # a fixture

AT = 1_900_000_000.0


def traffic_row(**said: Any) -> TrafficRow:
    about = {"at": AT, "workspace": "local", "endpoint": "digits", "status": 200, **said}
    return TrafficRow.model_validate(about)


def console_row(message: str, **said: Any) -> ConsoleRow:
    about = {
        "at": AT,
        "workspace": "local",
        "endpoint": "digits",
        "deployment": "blue",
        "instance": "i1",
        "container": "inference-server",
        "message": message,
    }
    return ConsoleRow.model_validate({**about, **said})


class World(OneService):
    NAME = "logs"
    APP = app

    async def ask(self, table: str = "traffic", **asked: Any) -> LogRowsReply:
        query = QueryLogs.model_validate({"workspace": "local", "table": table, **asked})
        return await self.buses["probe"].ask(query, LogRowsReply)

    async def until(
        self, condition: Callable[[LogRowsReply], Any], table: str = "traffic", **asked: Any
    ) -> LogRowsReply:
        """The first answer that fulfils the condition."""
        async with asyncio.timeout(30):
            while not condition(reply := await self.ask(table, **asked)):
                await asyncio.sleep(0.05)
        return reply


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(data_dir: Path) -> AsyncIterator[MakeWorld]:
    async with World.makers(data_dir) as make:
        yield make
