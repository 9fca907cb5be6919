"""One service on either database and a bus of its own, with writers that say what tests want."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from databases import KINDS, fresh_url
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import Clock, SystemClock, new_id
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts.envelope import Event


class Buildable(Protocol):
    """The ``app`` of a service."""

    async def build(self, settings: Settings, bus: Bus, clock: Clock) -> Service: ...


class OneService:
    """The service can be stopped and started anew on the same database."""

    NAME: str
    APP: Buildable

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.clock: Any = SystemClock()
        self.service: Service | None = None
        self.buses: dict[str, Bus] = {}

    async def connect(self, name: str, clock: Clock | None = None) -> Bus:
        creds = self.server.creds(name)
        return await Bus.connect(name, self.server.url, creds, clock or SystemClock())

    async def begin(self) -> None:
        bus = await self.connect("bootstrap")
        await bootstrap(bus)
        await bus.close()
        for name in ("router", "provisioner", "probe"):
            self.buses[name] = await self.connect(name)
        await self.start()

    async def start(self, **settings: Any) -> None:
        self.settings = self.settings.model_copy(update=settings)
        bus = await self.connect(self.NAME, self.clock)
        self.service = await self.APP.build(self.settings, bus, self.clock)
        await self.service.start()

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def end(self) -> None:
        await self.stop()
        for bus in self.buses.values():
            await bus.close()

    async def say(self, writer: str, event: Event, when: float | None = None) -> None:
        """Stored in its stream when this returns."""
        stamped = event.stamped(id=new_id(), at=when or self.clock.now())
        await self.buses[writer].publish_stored_event(
            stamped.subject(), stamped.model_dump_json().encode(), event_headers(stamped, writer)
        )

    @classmethod
    @asynccontextmanager
    async def makers(cls, folder: Path) -> AsyncIterator[Callable[..., Awaitable[Self]]]:
        """``await make("sqlite")``: a service; those that were made share a bus."""
        worlds: list[Self] = []
        async with natsd.running(folder / "bus") as server:

            async def make(kind: str = "sqlite", **settings: Any) -> Self:
                url = fresh_url(kind, folder)
                world = cls(server, Settings(data=folder, database=url, **settings))
                worlds.append(world)
                await world.begin()
                return world

            yield make
            for world in worlds:
                await world.end()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the database."""
    return str(request.param)
