"""A Headgate for the command line's tests: the real bus, registry and gateway, over TLS.

The provisioner's part is played by the test, with the provisioner's own messages, so that every
outcome can be had at will; scoring answers whatever the request body asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from headgate.batch import app as batch
from headgate.gateway import app as gateway
from headgate.identity import app as identity
from headgate.metering import app as metering
from headgate.registry import app as registry
from headgate.runtime import keyring, natsd, ports, tls
from headgate.runtime.answers import make
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import load
from headgate_contracts.envelope import Done, Reply
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.provisioning import (
    GetLogs,
    Instance,
    InstancesReply,
    ListInstances,
    LogsReply,
)
from headgate_contracts.registry import DeploymentsReply, ListDeployments, ReportDeployment
from headgate_contracts.resources import Deployment, ProvisioningState
from headgate_contracts.routing import DeploymentTraffic, GetTraffic, TrafficReply

START_TIMEOUT_S = 30.0
LOOK_S = 0.05
BROKEN = "broken"
"""A deployment of this description fails, as one with a bad script would."""
SLOW = "slow"
"""A deployment of this description never gets ready."""
FAILURE = "File score.py, line 3: NameError: name 'modle' is not defined"


@dataclass
class System:
    """Runs in a thread of its own, because the command line has its own event loop."""

    data: Path
    settled: dict[tuple[str, str], int] = field(default_factory=dict)
    log: list[str] = field(default_factory=lambda: [f"line {n}" for n in range(1, 8)])
    scored: list[dict[str, Any]] = field(default_factory=list)
    slow_finish: bool = False

    def __post_init__(self) -> None:
        self._clock = SystemClock()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))

    def start(self) -> None:
        self._thread.start()
        self._ready.result(START_TIMEOUT_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_TIMEOUT_S)
        self._loop.close()

    def _do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Runs ``work()`` beside the services."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(START_TIMEOUT_S)

    async def _main(self) -> None:
        try:
            async with natsd.running(self.data) as server:
                await self._serve(server)
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    async def _serve(self, server: natsd.RunningServer) -> None:
        self._server = server
        self._files = tls.ensure(self.data / "tls", now=datetime.now(UTC))
        self._settings = load(
            {"data": self.data, "port": ports.choose("127.0.0.1", 0, setting="port")}, environ={}
        )
        keyring.admin_token(self._settings.keys_dir)
        async with AsyncExitStack() as stack:
            scoring = await self._start_scoring()
            stack.push_async_callback(scoring.cleanup)
            self._scoring_url = f"https://localhost:{scoring.addresses[0][1]}"
            first = await self._connect("bootstrap")
            await bootstrap(first)
            await first.close()
            services = {"registry": registry, "identity": identity, "metering": metering}
            for name, module in {**services, "batch": batch}.items():
                bus = await self._connect(name)
                service = await module.build(self._settings, bus, self._clock)
                await service.start()
                stack.push_async_callback(service.stop)
            await self._start_gateway()
            stack.push_async_callback(self._stop_gateway)
            await self._play(stack)

    async def _play(self, stack: AsyncExitStack) -> None:
        """The parts that the test plays itself, until the end."""
        for name, handlers in (
            ("provisioner", {ListInstances: self._instances, GetLogs: self._logs}),
            ("router", {GetTraffic: self._traffic}),
        ):
            creds = self._server.creds(name)
            answers = make(name, self._server.url, creds, handlers, shared=name != "router")
            await answers.broker.start()
            stack.push_async_callback(answers.broker.stop)
        bus = await self._connect("provisioner")
        stack.push_async_callback(bus.close)
        provisioning = asyncio.create_task(self._provision(bus))
        self._ready.set_result(None)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((stopping, provisioning), return_when=asyncio.FIRST_COMPLETED)
        if provisioning.done():
            await provisioning
        provisioning.cancel()

    async def _connect(self, name: str) -> Bus:
        creds = self._server.creds(name)
        return await Bus.connect(name, self._server.url, creds, self._clock)

    async def _start_gateway(self) -> None:
        bus = await self._connect("gateway")
        self._gateway = await gateway.build(
            self._settings,
            bus,
            self._clock,
            tls=self._files.server_context(),
            scoring_url=self._scoring_url,
        )
        await self._gateway.start()
        run = self.data / "run" / "headgate.json"
        run.parent.mkdir(exist_ok=True)
        url = self._gateway.listener.url.replace("127.0.0.1", "localhost")
        run.write_text(json.dumps({"gateway": url, "ca": str(self._files.ca)}))

    async def _stop_gateway(self) -> None:
        await self._gateway.stop()

    def stop_gateway(self) -> None:
        self._do(self._stop_gateway)

    def start_gateway(self) -> None:
        self._do(self._start_gateway)

    def finish_slow(self) -> None:
        """From now on slow deployments get ready."""
        self.slow_finish = True

    # --- the provisioner's part ---

    async def _provision(self, bus: Bus) -> None:
        """Every deployment becomes ready, fails or is removed, as its description says."""
        while True:
            with contextlib.suppress(HeadgateError):  # the next look may succeed
                reply = await bus.ask(ListDeployments(), DeploymentsReply)
                for each in reply.deployments:
                    await self._settle(bus, each)
            await asyncio.sleep(LOOK_S)

    async def _settle(self, bus: Bus, each: Deployment) -> None:
        name = (each.spec.endpoint_name, each.spec.name)
        is_leaving = each.provisioning_state is ProvisioningState.DELETING
        if each.spec.description == SLOW and not (is_leaving or self.slow_finish):
            return
        if self.settled.get(name) == each.generation and not is_leaving:
            return
        outcome = "gone" if is_leaving else "succeeded"
        error = None
        if each.spec.description == BROKEN and not is_leaving:
            outcome = "failed"
            error = WireError(code=ErrorCode.USER_SCRIPT_IMPORT_ERROR, message=FAILURE)
        report = ReportDeployment(
            workspace=each.workspace,
            endpoint=name[0],
            name=name[1],
            generation=each.generation,
            outcome=outcome,
            ready_instances=(
                each.spec.instance_count if outcome == "succeeded" and not each.is_stopped else 0
            ),
            error=error,
        )
        await bus.ask(report, Done)
        self.settled[name] = each.generation

    async def _instances(self, query: ListInstances) -> Reply:
        one = Instance(
            id="i-1",
            endpoint=query.endpoint,
            deployment=query.deployment,
            spec="abc",
            state="ready",
            pid=42,
            started_at=1.0,
        )
        return InstancesReply(instances=(one,))

    async def _logs(self, query: GetLogs) -> Reply:
        begin = int(query.cursor or 0)
        lines = self.log[begin:][-query.tail :]
        content = "".join(f"{line}\n" for line in lines)
        return LogsReply(content=content, cursor=str(len(self.log)))

    async def _traffic(self, query: GetTraffic) -> Reply:
        part = DeploymentTraffic(requests=4, statuses={200: 4}, ready_instances=1)
        return TrafficReply(router="r", since=1.0, deployments={"blue": part})

    # --- the router's part ---

    async def _start_scoring(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/api/v1/endpoint/{endpoint}/score", self._score)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._files.server_context())
        await site.start()
        return runner

    async def _score(self, request: web.Request) -> web.Response:
        """Answers with the status, headers and body that the request names."""
        raw = await request.read()
        self.scored.append({"headers": dict(request.headers), "body": raw})
        said = json.loads(raw)
        return web.Response(
            status=said.get("status", 200),
            headers=said.get("headers", {}),
            body=said.get("body", "null").encode(),
        )
