"""Batch jobs among their real neighbours: bus, registry, provisioner with nodes, batch service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtests.batch_user import DATA, WORKSPACE, BatchUser, eventually

from headgate.batch import app as batch_app
from headgate.provisioner import app as provisioner_app
from headgate.registry import app as registry_app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts import subjects

__all__ = ["DATA", "WORKSPACE", "House", "doubled", "eventually", "house"]
_BUILDS = {
    "registry": registry_app.build,
    "provisioner": provisioner_app.build,
    "batch": batch_app.build,
}


class House(BatchUser):
    """All services of batch jobs in this process; each can be stopped and started."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.store = Store(settings.store_url())
        self.services: dict[str, Service] = {}
        self.events: list[tuple[str, bytes]] = []

    async def open(self) -> None:
        boot = await self.connect("bootstrap")
        await bootstrap(boot)
        await boot.close()
        self.probe = await self.connect("probe")
        await self.probe.subscribe(subjects.events_of("job"), self._note)
        for name in _BUILDS:
            await self.start(name)
        await self.settle_in()

    async def close(self) -> None:
        for name in reversed(_BUILDS):
            await self.stop(name)
        await self.probe.close()

    async def start(self, name: str) -> None:
        bus = await self.connect(name)
        self.services[name] = await _BUILDS[name](self.settings, bus, SystemClock())
        await self.services[name].start()

    async def stop(self, name: str) -> None:
        if service := self.services.pop(name, None):
            await service.stop()

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    async def _note(self, message: Msg) -> None:
        self.events.append((message.subject.rpartition(".")[2], message.data))


def doubled(count: int) -> str:
    """What DOUBLE makes of :meth:`House.numbers`."""
    return "".join(f"{n:05}.txt,{2 * n}\n" for n in range(count))


@asynccontextmanager
async def house(folder: Path, **fields: Any) -> AsyncIterator[House]:
    async with natsd.running(folder) as server:
        found = House(server, Settings(data=folder, **fields))
        await found.open()
        try:
            yield found
        finally:
            await found.close()
