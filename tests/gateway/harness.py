"""What tests of the gateway share: a client of plain HTTP, services that say what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import new_id
from headgate_contracts import provisioning, refreshing, registry, routing
from headgate_contracts.envelope import Done, Event
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.nodes import ListNodes, Node, NodesReply

TOKEN = "t0ken-of-the-admin"
WORKSPACE = (
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices"
    "/workspaces/local"
)
SCORING_URL = "https://127.0.0.1:8901"


@dataclass
class World:
    """What the services behind the gateway answer with; tests change it."""

    provisioner: Bus
    instances: list[provisioning.Instance] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)
    refreshes: dict[str, refreshing.Refresh] = field(default_factory=dict)
    traffic: dict[str, routing.DeploymentTraffic] = field(default_factory=dict)
    capacity: provisioning.CapacityReply = provisioning.CapacityReply(
        total=provisioning.Amounts(cores=2, memory_bytes=7 * 2**30, gpus=1),
        taken=provisioning.Amounts(cores=0.5, memory_bytes=2**29, gpus=0),
    )

    async def list_instances(
        self, query: provisioning.ListInstances
    ) -> provisioning.InstancesReply:
        found = tuple(
            instance
            for instance in self.instances
            if query.endpoint in ("", instance.endpoint)
            and query.deployment in ("", instance.deployment)
        )
        return provisioning.InstancesReply(instances=found)

    async def list_nodes(self, query: ListNodes) -> NodesReply:
        return NodesReply(nodes=tuple(self.nodes))

    async def get_capacity(self, query: provisioning.GetCapacity) -> provisioning.CapacityReply:
        return self.capacity.model_copy(
            update={"instances_max": 7 if query.instance_type else None}
        )

    async def refresh(self, command: refreshing.RefreshEnvironments) -> refreshing.RefreshReply:
        begun = refreshing.Refresh(
            id=new_id(), workspace=command.workspace, dry_run=command.dry_run, started_at=0.0
        )
        self.refreshes[begun.id] = begun
        return refreshing.RefreshReply(refresh=begun)

    async def get_refresh(self, query: refreshing.GetRefresh) -> refreshing.RefreshReply:
        found = self.refreshes.get(query.refresh_id)
        if found is None or found.workspace != query.workspace:
            raise HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, f"no refresh {query.refresh_id!r}")
        return refreshing.RefreshReply(refresh=found)

    async def get_logs(self, query: provisioning.GetLogs) -> provisioning.LogsReply:
        lines = self.logs.get(f"{query.endpoint}/{query.deployment}/{query.container}", [])
        new = lines[int(query.cursor or 0) :][-query.tail :]
        return provisioning.LogsReply(
            content="".join(f"{line}\n" for line in new), cursor=str(len(lines))
        )

    async def report(self, endpoint: str, deployment: str, outcome: str, **more: Any) -> None:
        """Says of a deployment what a provisioner would."""
        found = await self.provisioner.ask(registry.ListDeployments(), registry.DeploymentsReply)
        generation = next(
            item.generation
            for item in found.deployments
            if (item.spec.endpoint_name, item.spec.name) == (endpoint, deployment)
        )
        command = registry.ReportDeployment(
            workspace="local",
            endpoint=endpoint,
            name=deployment,
            generation=generation,
            outcome=outcome,
            **more,
        )
        await self.provisioner.ask(command, Done)

    async def get_traffic(self, query: routing.GetTraffic) -> routing.TrafficReply:
        return routing.TrafficReply(router="r1", since=1.0, deployments=self.traffic)


@dataclass
class Reply:
    """An answer, read completely."""

    status: int
    headers: Any
    raw: bytes
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.body["error"]
        return error


class Api:
    """Speaks to one gateway. Paths that start with ``~`` are below the workspace."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    def url(self, path: str) -> str:
        return self.base + (WORKSPACE + path[1:] if path.startswith("~") else path)

    async def send(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if verb == "POST":
            given.setdefault("Idempotency-Key", new_id())
        if body is not None:
            options["json"] = body
        async with self.session.request(verb, self.url(path), headers=given, **options) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json" and raw
            return Reply(
                response.status, response.headers, raw, await response.json() if is_json else None
            )

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.send("GET", path, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.send("PUT", path, body, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.send("POST", path, body, **options)

    async def patch(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.send("PATCH", path, body, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.send("DELETE", path, **options)


Connect = Callable[[str], Awaitable[Bus]]


async def publish(bus: Bus, event: Event) -> Event:
    """Says an event as the registry does: stored when this returns."""
    stamped = event.stamped(id=new_id(), at=bus.clock.now())
    await bus.publish_stored_event(
        stamped.subject(), stamped.model_dump_json().encode(), event_headers(stamped, bus.service)
    )
    return stamped


async def eventually(condition: Callable[[], Any], timeout_s: float = 10) -> Any:
    """The first true value of ``condition``."""
    async with asyncio.timeout(timeout_s):
        while not (value := condition()):
            await asyncio.sleep(0.02)
    return value
