"""What the tests of the service share: bus, registry, autoscaler, and a router that only tells."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from headgate.autoscaler import app as autoscaler
from headgate.autoscaler import scaler
from headgate.registry import app as registry_app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock, short_id
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts import registry, rpc
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    DecisionsReply,
    ListDecisions,
    PutAutoscaleSetting,
    ScaleDecision,
)
from headgate_contracts.envelope import Command, Query
from headgate_contracts.load import DeploymentLoad, LoadReported
from headgate_contracts.resources import Deployment, DeploymentSpec, EndpointSpec

REPORT_S = 0.2
scaler.TOLD_AFTER_S = 1.0


class MovedClock(SystemClock):
    """The machine's clock, set ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class Router:
    """Tells loads as a router does; the tests say how much there is of everything per second."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._id = short_id()
        self._seq = 0
        self._since = time.time()
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self.rates: dict[tuple[str, str], dict[str, float]] = {}
        self.now: dict[tuple[str, str], dict[str, int]] = {}
        self.is_silent = False

    async def run(self) -> None:
        while True:
            if not self.is_silent:
                await self.tell()
            await asyncio.sleep(REPORT_S)

    async def tell(self) -> None:
        self._seq += 1
        loads = tuple(self._load(*key) for key in self.rates)
        report = LoadReported(
            router=self._id,
            seq=self._seq,
            since=self._since,
            at=time.time(),
            mono_s=time.monotonic(),
            deployments=loads,
        )
        with contextlib.suppress(NatsError):  # the bus may end first; a router says it again too
            await self._bus.publish(report.subject(), report.model_dump_json().encode())

    def _load(self, endpoint: str, deployment: str) -> DeploymentLoad:
        key = (endpoint, deployment)
        counts = self._counts.setdefault(key, Counter())
        for name, rate in self.rates[key].items():
            counts[name] += REPORT_S * rate  # type: ignore[assignment] # whole only in the end
        requests = int(counts["requests"])
        return DeploymentLoad(
            workspace="local",
            endpoint=endpoint,
            deployment=deployment,
            busy_s=float(counts["busy_s"]),
            statuses={200: requests},
            latency_buckets={30: requests},
            latency_s=float(counts["latency_s"]),
            **self.now.get(key, {}),
        )


class World:
    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.clock = MovedClock()
        self.probe: Bus
        self.router: Router
        self.scaler: Service | None = None

    @classmethod
    @asynccontextmanager
    async def of(cls, database: str, folder: Path) -> AsyncIterator[World]:
        async with natsd.running(folder) as server:
            world = cls(server, Settings(data=folder, database=database))
            boot = await world.connect("bootstrap")
            await bootstrap(boot)
            await boot.close()
            world.probe = await world.connect("probe")
            keeper = await registry_app.build(
                world.settings, await world.connect("registry"), SystemClock()
            )
            await keeper.start()
            world.router = Router(await world.connect("router"))
            telling = asyncio.create_task(world.router.run())
            await world.start()
            yield world
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            await world.stop()
            await keeper.stop()
            await world.router._bus.close()
            await world.probe.close()

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    async def start(self) -> None:
        bus = await self.connect("autoscaler")
        self.scaler = await autoscaler.build(self.settings, bus, self.clock)
        await self.scaler.start()

    async def stop(self) -> None:
        if self.scaler is not None:
            await self.scaler.stop()
            self.scaler = None

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

    # --- deployments ---

    async def deploy(self, endpoint: str, name: str = "blue", **spec: Any) -> Deployment:
        """A deployment that is ready."""
        await self.ask(registry.PutEndpoint(workspace="local", spec=EndpointSpec(name=endpoint)))
        wanted = DeploymentSpec(name=name, endpoint_name=endpoint, **spec)
        made = await self.ask(registry.PutDeployment(workspace="local", spec=wanted))
        await self.report(made.deployment)
        self.router.rates[endpoint, name] = {}
        return await self.deployment(endpoint, name)

    async def report(self, deployment: Deployment) -> None:
        """All instances of the deployment are ready, as the provisioner would say."""
        spec = deployment.spec
        await self.ask(
            registry.ReportDeployment(
                workspace="local",
                endpoint=spec.endpoint_name,
                name=spec.name,
                generation=deployment.generation,
                outcome="succeeded",
                ready_instances=spec.instance_count,
            )
        )

    async def deployment(self, endpoint: str, name: str = "blue") -> Deployment:
        query = registry.GetDeployment(workspace="local", endpoint=endpoint, name=name)
        return (await self.ask(query)).deployment

    async def count(self, endpoint: str) -> int:
        return (await self.deployment(endpoint)).spec.instance_count

    async def counted(self, endpoint: str, count: int) -> None:
        """Return when so many instances are wanted."""

        async def is_so() -> bool:
            return await self.count(endpoint) == count

        await until(is_so, f"{count} instances of {endpoint}")

    # --- settings and decisions ---

    async def put(self, spec: AutoscaleSpec, **more: Any) -> Any:
        return await self.ask(PutAutoscaleSetting(workspace="local", spec=spec, **more))

    async def decisions(self, endpoint: str) -> list[ScaleDecision]:
        """Oldest first."""
        reply: DecisionsReply = await self.ask(ListDecisions(workspace="local", endpoint=endpoint))
        return list(reversed(reply.decisions))

    async def decided(self, endpoint: str, reason: str) -> ScaleDecision:
        """The first decision for a reason, once there is one."""
        found: list[ScaleDecision] = []

        async def is_there() -> bool:
            found[:] = [d for d in await self.decisions(endpoint) if d.reason == reason]
            return bool(found)

        await until(is_there, f"a decision because of {reason}")
        return found[0]


async def until(is_so: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 25.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await is_so():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None
