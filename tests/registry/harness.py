"""A registry as its neighbours see it: asked over the bus, watched in stream and bucket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import pytest
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from headgate.registry import app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts import registry, rpc, streams
from headgate_contracts.envelope import Command, Query
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import (
    Deployment,
    DeploymentSpec,
    Endpoint,
    EndpointSpec,
    Operation,
)
from headgate_contracts.scoring import Route

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = 15.0) -> T:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


async def refused(code: ErrorCode, asked: Awaitable[Any], *words: str) -> HeadgateError:
    """The refusal of what is asked: its code, and words its text must have."""
    with pytest.raises(HeadgateError) as caught:
        await asked
    assert caught.value.error.code is code, caught.value
    for word in words:
        assert word in str(caught.value)
    return caught.value


async def connect(server: RunningServer, name: str) -> Bus:
    return await Bus.connect(name, server.url, server.creds(name), SystemClock())


class World:
    """One registry process that can be stopped and started, and a probe beside it."""

    def __init__(self, server: RunningServer, settings: Settings, probe: Bus) -> None:
        self.server = server
        self.settings = settings
        self.probe = probe
        self.service: Service | None = None
        self.workspace = "local"

    @classmethod
    @asynccontextmanager
    async def of(cls, database: str, folder: Path) -> AsyncIterator[World]:
        """A world with a bus of its own; the registry is not started yet."""
        async with natsd.running(folder) as server:
            settings = Settings(data=folder, database=database)
            world = cls(server, settings, await connect(server, "probe"))
            await world.bootstrap()
            yield world
            await world.stop()
            await world.probe.close()

    def tenant(self, workspace: str) -> World:
        """The same registry, seen from another workspace."""
        tenant = copy(self)
        tenant.workspace = workspace
        return tenant

    async def start(self) -> None:
        self.service = await self.build()
        await self.service.start()

    async def build(self) -> Service:
        bus = await connect(self.server, "registry")
        return await app.build(self.settings, bus, SystemClock())

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def bootstrap(self) -> None:
        boot = await connect(self.server, "bootstrap")
        await bootstrap(boot)
        await boot.close()

    async def remove_streams(self) -> None:
        boot = await connect(self.server, "bootstrap")
        for name in (streams.EVENTS.name, f"KV_{streams.ROUTES.name}"):
            await boot.js.delete_stream(name)
        await boot.close()

    @asynccontextmanager
    async def route_bucket(self) -> AsyncIterator[KeyValue]:
        """The bucket of routes in the hands of somebody who may write it."""
        bus = await connect(self.server, "registry")
        try:
            yield await bus.js.key_value(streams.ROUTES.name)
        finally:
            await bus.close()

    async def routes_written(self) -> int:
        """How many times any route was ever written."""
        info = await self.probe.js.stream_info(f"KV_{streams.ROUTES.name}")
        return info.state.last_seq

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

    # --- commands ---

    async def put_endpoint(self, name: str, **spec: Any) -> registry.EndpointReply:
        return await self.ask(
            registry.PutEndpoint(workspace=self.workspace, spec=EndpointSpec(name=name, **spec))
        )

    async def put_deployment(
        self, endpoint: str, name: str = "blue", **spec: Any
    ) -> registry.DeploymentReply:
        wanted = DeploymentSpec(name=name, endpoint_name=endpoint, **spec)
        return await self.ask(registry.PutDeployment(workspace=self.workspace, spec=wanted))

    async def report(self, deployment: Deployment, outcome: str, **figures: Any) -> None:
        await self.ask(
            registry.ReportDeployment(
                workspace=deployment.workspace,
                endpoint=deployment.spec.endpoint_name,
                name=deployment.spec.name,
                generation=figures.pop("generation", deployment.generation),
                outcome=outcome,
                **figures,
            )
        )

    async def deploy(self, endpoint: str, name: str = "blue", **spec: Any) -> Deployment:
        """A deployment that has become ready."""
        made = (await self.put_deployment(endpoint, name, **spec)).deployment
        await self.report(made, "succeeded", ready_instances=made.spec.instance_count)
        return await self.deployment(endpoint, name)

    async def delete_endpoint(self, name: str) -> Operation | None:
        return (
            await self.ask(registry.DeleteEndpoint(workspace=self.workspace, name=name))
        ).operation

    async def delete_deployment(self, endpoint: str, name: str = "blue") -> Operation | None:
        command = registry.DeleteDeployment(workspace=self.workspace, endpoint=endpoint, name=name)
        return (await self.ask(command)).operation

    # --- what is there ---

    async def endpoint(self, name: str) -> Endpoint:
        return (await self.ask(registry.GetEndpoint(workspace=self.workspace, name=name))).endpoint

    async def deployment(self, endpoint: str, name: str = "blue") -> Deployment:
        query = registry.GetDeployment(workspace=self.workspace, endpoint=endpoint, name=name)
        return (await self.ask(query)).deployment

    async def operation(self, id: str) -> Operation:
        query = registry.GetOperation(workspace=self.workspace, operation_id=id)
        return (await self.ask(query)).operation

    async def keys(self, endpoint: str) -> Any:
        return (await self.ask(registry.ListKeys(workspace=self.workspace, endpoint=endpoint))).keys

    async def route(self, endpoint: str) -> Route | None:
        """The routing table as routers read it."""
        try:
            bucket = await self.probe.js.key_value(streams.ROUTES.name)
            entry = await bucket.get(endpoint)
            return Route.model_validate_json(entry.value)
        except (KeyNotFoundError, ValidationError):
            return None

    async def routed(self, endpoint: str, holds: Callable[[Route], bool]) -> Route:
        """The route, once it is as wanted."""

        async def look() -> Route | None:
            route = await self.route(endpoint)
            return route if route is not None and holds(route) else None

        return await eventually(look)

    async def unrouted(self, endpoint: str) -> None:
        """Returns when there is no route."""

        async def look() -> bool:
            return await self.route(endpoint) is None

        await eventually(look)


class EventLog:
    """The events of the stream that concern one endpoint, in order."""

    def __init__(self, probe: Bus, endpoint: str) -> None:
        self._probe = probe
        self._endpoint = endpoint
        self._next = 1
        self._found: list[tuple[str, dict[str, Any], dict[str, str]]] = []

    async def all(self) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        """(short type, data, headers) of everything stored so far."""
        js = self._probe.js
        last = (await js.stream_info(streams.EVENTS.name)).state.last_seq
        while self._next <= last:
            message = await js.get_msg(streams.EVENTS.name, seq=self._next, direct=True)
            data = json.loads(message.data or b"{}")
            if data.get("endpoint") == self._endpoint:
                headers = dict(message.headers or {})
                self._found.append((headers["ce-type"].rsplit(".", 1)[-1], data, headers))
            self._next += 1
        return self._found

    async def types(self) -> list[str]:
        return [kind for kind, _, _ in await self.all()]

    async def until(self, *wanted: str) -> list[str]:
        """The types so far, once the stream ends with these."""

        async def look() -> list[str] | None:
            types = await self.types()
            return types if tuple(types[-len(wanted) :]) == wanted else None

        return await eventually(look)
