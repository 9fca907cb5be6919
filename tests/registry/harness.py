"""A registry as its neighbours see it: asked over the bus, watched in stream and bucket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from nats.js.errors import KeyNotFoundError

from headgate.registry import app
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts import registry, rpc, streams
from headgate_contracts.envelope import Command, Query
from headgate_contracts.resources import (
    Deployment,
    DeploymentSpec,
    Endpoint,
    EndpointSpec,
    Operation,
)
from headgate_contracts.scoring import Route

WORKSPACE = "local"
T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = 15.0) -> T:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


class World:
    """One registry process that can be stopped and started, and a probe beside it."""

    def __init__(self, server: RunningServer, settings: Settings, probe: Bus) -> None:
        self.server = server
        self.settings = settings
        self.probe = probe
        self.service: Service | None = None

    async def start(self) -> None:
        self.service = await self.build()
        await self.service.start()

    async def build(self) -> Service:
        bus = await self.connect("registry")
        return await app.build(self.settings, bus, SystemClock())

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
            self.service = None

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

    # --- commands ---

    async def put_endpoint(
        self, name: str, workspace: str = WORKSPACE, **spec: Any
    ) -> registry.EndpointReply:
        return await self.ask(
            registry.PutEndpoint(workspace=workspace, spec=EndpointSpec(name=name, **spec))
        )

    async def put_deployment(
        self, endpoint: str, name: str = "blue", workspace: str = WORKSPACE, **spec: Any
    ) -> registry.DeploymentReply:
        wanted = DeploymentSpec(name=name, endpoint_name=endpoint, **spec)
        return await self.ask(registry.PutDeployment(workspace=workspace, spec=wanted))

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

    async def delete_endpoint(self, name: str, workspace: str = WORKSPACE) -> Operation | None:
        return (await self.ask(registry.DeleteEndpoint(workspace=workspace, name=name))).operation

    async def delete_deployment(
        self, endpoint: str, name: str = "blue", workspace: str = WORKSPACE
    ) -> Operation | None:
        command = registry.DeleteDeployment(workspace=workspace, endpoint=endpoint, name=name)
        return (await self.ask(command)).operation

    # --- what is there ---

    async def endpoint(self, name: str, workspace: str = WORKSPACE) -> Endpoint:
        return (await self.ask(registry.GetEndpoint(workspace=workspace, name=name))).endpoint

    async def deployment(
        self, endpoint: str, name: str = "blue", workspace: str = WORKSPACE
    ) -> Deployment:
        query = registry.GetDeployment(workspace=workspace, endpoint=endpoint, name=name)
        return (await self.ask(query)).deployment

    async def operation(self, id: str) -> Operation:
        query = registry.GetOperation(workspace=WORKSPACE, operation_id=id)
        return (await self.ask(query)).operation

    async def keys(self, endpoint: str) -> Any:
        return (await self.ask(registry.ListKeys(workspace=WORKSPACE, endpoint=endpoint))).keys

    async def route(self, endpoint: str) -> Route | None:
        """The routing table as routers read it."""
        try:
            bucket = await self.probe.js.key_value(streams.ROUTES.name)
            entry = await bucket.get(endpoint)
        except KeyNotFoundError:
            return None
        except LookupError:
            return None
        return Route.model_validate_json(entry.value)

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

    async def all(self) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        """(short type, data, headers) of everything stored so far."""
        js, found = self._probe.js, []
        info = await js.stream_info(streams.EVENTS.name)
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await js.get_msg(streams.EVENTS.name, seq=sequence, direct=True)
            data = json.loads(message.data or b"{}")
            if data.get("endpoint") == self._endpoint:
                headers = dict(message.headers or {})
                found.append((headers["ce-type"].rsplit(".", 1)[-1], data, headers))
        return found

    async def types(self) -> list[str]:
        return [kind for kind, _, _ in await self.all()]

    async def until(self, *wanted: str) -> list[str]:
        """The types so far, once the stream ends with these."""

        async def look() -> list[str] | None:
            types = await self.types()
            return types if tuple(types[-len(wanted) :]) == wanted else None

        return await eventually(look)
