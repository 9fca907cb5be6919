"""The logs service on either database and a real bus, with writers that say what tests want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from databases import KINDS, fresh_url
from headgate.logs import app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import SystemClock, new_id
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts.envelope import Event
from headgate_contracts.logs import ConsoleRow, LogRowsReply, QueryLogs, TrafficRow

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


class World:
    """The service can be stopped and started anew on the same database."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.clock = SystemClock()
        self.service: Service | None = None
        self.buses: dict[str, Bus] = {}

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), self.clock)

    async def begin(self) -> None:
        bus = await self.connect("bootstrap")
        await bootstrap(bus)
        await bus.close()
        for name in ("router", "provisioner", "probe"):
            self.buses[name] = await self.connect(name)
        await self.start()

    async def start(self) -> None:
        self.service = await app.build(self.settings, await self.connect("logs"), self.clock)
        await self.service.start()

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def end(self) -> None:
        await self.stop()
        for bus in self.buses.values():
            await bus.close()

    async def say(self, writer: str, event: Event) -> None:
        """Stored in its stream when this returns."""
        bus = self.buses[writer]
        stamped = event.stamped(id=new_id(), at=self.clock.now())
        await bus.publish_stored_event(
            stamped.subject(), stamped.model_dump_json().encode(), event_headers(stamped, writer)
        )

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


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make_world(data_dir: Path) -> AsyncIterator[MakeWorld]:
    """``await make_world("sqlite")``: a service with a bus of its own."""
    worlds: list[World] = []
    async with natsd.running(data_dir / "bus") as server:

        async def make(kind: str = "sqlite", **settings: Any) -> World:
            url = fresh_url(kind, data_dir)
            world = World(server, Settings(data=data_dir, database=url, **settings))
            worlds.append(world)
            await world.begin()
            return world

        yield make
        for world in worlds:
            await world.end()
