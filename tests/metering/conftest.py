"""The metering service on either database and a real bus, with a clock that tests set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from databases import KINDS, fresh_url
from headgate.metering import app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import SystemClock, new_id
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts.envelope import Event
from headgate_contracts.metering import CostsReply, GetCosts, Scope
from headgate_contracts.provisioning import InstanceEvent, InstanceStarted
from headgate_contracts.usage import UsageReported, UsageRow


def at(text: str) -> float:
    """``2030-03-10 08:15`` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


DAY = at("2030-03-10")


class Hand:
    """A clock whose date tests set; it does not stand still for those that wait."""

    def __init__(self, now: float) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def used(minute: float = DAY, **said: Any) -> UsageRow:
    about = {
        "minute": int(minute),
        "workspace": "local",
        "endpoint": "digits",
        "deployment": "blue",
        "caller": "k1",
        "status": 200,
        "requests": 1,
    }
    return UsageRow.model_validate({**about, **said})


class World:
    """The service can be stopped and started anew on the same database."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.clock = Hand(DAY + 86_400)
        self.service: Service | None = None
        self.buses: dict[str, Bus] = {}

    async def connect(self, name: str, clock: Any = None) -> Bus:
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
        bus = await self.connect("metering", self.clock)
        self.service = await app.build(self.settings, bus, self.clock)
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

    async def report(
        self, *rows: UsageRow, reporter: str = "r1", epoch: int = 1, first: int = 0
    ) -> None:
        report = UsageReported(reporter=reporter, epoch=epoch, first=first, rows=rows)
        await self.say("router", report)

    async def instance(
        self, kind: type[InstanceEvent], instance: str, when: str, place: str, size: str = ""
    ) -> None:
        endpoint, deployment = place.split("/")
        about: dict[str, Any] = {"pid": 1, "instance_type": size, "reason": "it was killed"}
        fields = {name: about[name] for name in about if name in kind.model_fields}
        event = kind(
            workspace="local",
            endpoint=endpoint,
            deployment=deployment,
            instance=instance,
            **fields,
        )
        await self.say("provisioner", event, at(when))

    async def started(self, instance: str, when: str, place: str, size: str) -> None:
        await self.instance(InstanceStarted, instance, when, place, size)

    async def costs(self, **asked: Any) -> CostsReply:
        scope = {"workspace": "local", **asked.pop("scope", {})}
        query = GetCosts.model_validate(
            {"scope": Scope.model_validate(scope), "since": DAY, **asked}
        )
        return await self.buses["probe"].ask(query, CostsReply)

    async def until(self, condition: Callable[[CostsReply], Any], **asked: Any) -> CostsReply:
        """The first answer that fulfils the condition."""
        async with asyncio.timeout(30):
            while not condition(reply := await self.costs(**asked)):
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
