"""A whole control plane in one process, for tests that need real tokens: started once a module."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.harness import SCORING_URL, TOKEN, Api, World
from headgate.autoscaler import app as autoscaler_app
from headgate.batch import app as batch_app
from headgate.gateway import app
from headgate.gateway.app import GatewayService
from headgate.identity import app as identity_app
from headgate.metering import app as metering_app
from headgate.registry import app as registry_app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tokens import read_grant
from headgate_contracts import provisioning, refreshing, routing
from headgate_contracts.identity import CONTROL_AUDIENCE, IssuedTokenReply, IssueToken
from headgate_contracts.nodes import ListNodes

PROVIDER = "Microsoft.MachineLearningServices"


def workspace_path(name: str) -> str:
    return f"/subscriptions/s/resourceGroups/g/providers/{PROVIDER}/workspaces/{name}"


class House:
    """Bus, registry, identity and gateways; ``api`` speaks to the first of them."""

    def __init__(self, folder: Path, server: natsd.RunningServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.stack = stack
        self.clock = SystemClock()
        (folder / "keys").mkdir()
        (folder / "db").mkdir()
        (folder / "keys" / app.TOKEN_FILE).write_text(f"{TOKEN}\n")
        self.settings = Settings(
            data=folder, nats=server.url, port=0, failed_auth_per_minute=0, log_level="ERROR"
        )

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), self.clock)

    async def begin(self) -> None:
        bus = await self.connect("bootstrap")
        await bootstrap(bus)
        await bus.close()
        for name, module in (
            ("registry", registry_app),
            ("identity", identity_app),
            ("autoscaler", autoscaler_app),
            ("batch", batch_app),
            ("metering", metering_app),
        ):
            service = await module.build(self.settings, await self.connect(name), self.clock)
            await self._run(service)
        self.world = World(await self.connect("provisioner"))
        provisioner = {
            provisioning.ListInstances: self.world.list_instances,
            ListNodes: self.world.list_nodes,
            provisioning.GetLogs: self.world.get_logs,
            provisioning.GetCapacity: self.world.get_capacity,
            refreshing.RefreshEnvironments: self.world.refresh,
            refreshing.GetRefresh: self.world.get_refresh,
        }
        await self._run(Service(self.world.provisioner, description="", handlers=provisioner))
        router = {routing.GetTraffic: self.world.get_traffic}
        bus = await self.connect("router")
        await self._run(Service(bus, description="", handlers=router, shared=False))
        self.probe = await self.connect("probe")
        self.stack.push_async_callback(self.probe.close)
        self.session = await self.stack.enter_async_context(aiohttp.ClientSession())
        self.gateway, self.api = await self.open_gateway()

    async def open_gateway(self, **changes: Any) -> tuple[GatewayService, Api]:
        """One more gateway, with a connection of its own; ready when it knows whom to trust."""
        settings = self.settings.model_copy(update=changes)
        bus = await self.connect("gateway")
        service = await app.build(settings, bus, self.clock, tls=None, scoring_url=SCORING_URL)
        await self._run(service)
        api = Api(self.session, service.listener.url)
        async with asyncio.timeout(10):
            while (await api.get("/", token=await self.mint("local/reader"))).status == 503:
                await asyncio.sleep(0.02)
        return service, api

    async def _run(self, service: Service) -> None:
        await service.start()
        self.stack.push_async_callback(service.stop)

    async def mint(self, *grants: str, audience: str = CONTROL_AUDIENCE, **more: Any) -> str:
        """A token with these grants."""
        found = [read_grant(text) for text in grants]
        command = IssueToken(
            subject="-".join(grants) or "nobody",
            audiences=(audience,),
            grants=tuple(grant for grant in found if grant),
            **more,
        )
        return (await self.probe.ask(command, IssuedTokenReply)).token


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="hg-"))
    try:
        async with natsd.running(folder / "bus") as server, AsyncExitStack() as stack:
            house = House(folder, server, stack)
            await house.begin()
            yield house
    finally:
        shutil.rmtree(folder, ignore_errors=True)
