"""An identity service on either database, beside a real registry, and a probe that asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from databases import KINDS, fresh_url
from headgate.identity import app
from headgate.registry import app as registry_app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tokens import Principal, check
from headgate.runtime.trust import TrustFollower
from headgate_contracts.envelope import Command, Query
from headgate_contracts.identity import CONTROL_AUDIENCE, Trust

T = TypeVar("T")


class World:
    """The service can be stopped and started anew; ``trust`` is what a gateway would know."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.clock = SystemClock()
        self.service: Service | None = None
        self._others: list[Service] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), self.clock)

    async def begin(self) -> None:
        bus = await self.connect("bootstrap")
        await bootstrap(bus)
        await bus.close()
        registry = await registry_app.build(
            self.settings, await self.connect("registry"), self.clock
        )
        await registry.start()
        self._others.append(registry)
        self.probe = await self.connect("probe")
        self.follower = TrustFollower(self.probe)
        self._tasks.append(asyncio.create_task(self.follower.run()))
        await self.start()

    async def start(self) -> None:
        self.service = await app.build(self.settings, await self.connect("identity"), self.clock)
        await self.service.start()
        await self.until(lambda: self.follower.is_known)

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def end(self) -> None:
        await self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.probe.close()
        for service in self._others:
            await service.stop()

    @property
    def trust(self) -> Trust:
        return self.follower.trust

    async def ask(self, request: Command | Query, reply: type[T]) -> T:
        answer: Any = await self.probe.ask(request, reply)  # type: ignore[type-var]
        return answer

    def check(self, token: str, *audiences: str, later_s: float = 0.0) -> Principal:
        now = self.clock.now() + later_s
        return check(token, self.trust, audiences=audiences or (CONTROL_AUDIENCE,), now=now)

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(15):
            while True:
                found = condition()
                if found if isinstance(found, bool) else await found:
                    return
                await asyncio.sleep(0.02)


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, data_dir: Path) -> Settings:
    (data_dir / "db").mkdir()
    return Settings(data=data_dir, database=fresh_url(request.param, data_dir))


@pytest_asyncio.fixture
async def world(settings: Settings, data_dir: Path) -> AsyncIterator[World]:
    async with natsd.running(data_dir / "bus") as server:
        world = World(server, settings)
        await world.begin()
        try:
            yield world
        finally:
            await world.end()
