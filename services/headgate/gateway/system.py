"""Routes about the system itself: health, status, the workspace, the description of the API."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError

from headgate import __version__
from headgate.azure.arm_answers import COUNT, TEXT, URL, or_null, plain
from headgate.azure.arm_fields import Json
from headgate.gateway import openapi
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import Route
from headgate.runtime.tokens import Principal
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import ANY_WORKSPACE
from headgate_contracts.provisioning import Amounts, CapacityReply, GetCapacity
from headgate_contracts.registry import DeploymentsReply, ListDeployments
from headgate_contracts.resources import Deployment

_PING = "$SRV.PING"
_PING_WAIT_S = 0.3
_SERVICES_MAX = 1_000

_HEALTH = plain("Health", status=TEXT)
_INDEX = plain("Index", product=TEXT, version=TEXT, scoring=URL, api=URL, status=URL, events=URL)
_AMOUNTS = plain(
    "Amounts",
    cores={"type": "number", "minimum": 0},
    memoryGib={"type": "number", "minimum": 0},
    gpus=COUNT,
)
_STATUS = plain(
    "Status",
    product=TEXT,
    version=TEXT,
    urls=plain(gateway=URL, scoring=URL),
    bus=plain(connected={"type": "boolean"}),
    services={"type": "array", "items": plain(name=TEXT, id=TEXT, version=TEXT)},
    endpoints=or_null(COUNT),
    deployments=or_null(COUNT),
    readyInstances=or_null(COUNT),
    capacity=or_null(plain(total=_AMOUNTS, taken=_AMOUNTS)),
)


class System:
    """Handlers about the system."""

    def __init__(self, backend: Backend, workspace: str, is_ready: Callable[[], bool]) -> None:
        self._backend = backend
        self._workspace = workspace
        self._is_ready = is_ready
        self._document: bytes = b""

    def describe(self, routes: Iterable[Route[Any]]) -> None:
        """Take the whole table, this part of it included, for the OpenAPI document."""
        self._document = json.dumps(openapi.document(routes, __version__)).encode()

    async def live(self, call: Call) -> web.StreamResponse:
        return answer({"status": "alive"})

    async def ready(self, call: Call) -> web.StreamResponse:
        """Ready means: started, and the bus is there."""
        if self._is_ready():
            return answer({"status": "ready"})
        return answer({"status": "not ready"}, 503, Retry_After="1")

    async def index(self, call: Call) -> web.StreamResponse:
        return answer(
            {
                "product": "Headgate",
                "version": __version__,
                "scoring": call.scoring_url,
                "api": call.url("/openapi.json"),
                "status": call.url("/status"),
                "events": call.url("/events"),
            }
        )

    async def openapi(self, call: Call) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/json")

    async def status(self, call: Call) -> web.StreamResponse:
        """Which services answer, and how much there is. Answers also while parts are away."""
        services = await self._ping()
        return answer(
            {
                "product": "Headgate",
                "version": __version__,
                "urls": {"gateway": call.origin, "scoring": call.scoring_url},
                "bus": {"connected": self._backend.bus.nc.is_connected},
                "services": sorted(services, key=lambda item: (item["name"], item["id"])),
                **await self._count(call.principal),
                "capacity": await self._capacity(),
            }
        )

    async def _capacity(self) -> Json | None:
        """What instances may use of the host, and what of it is taken."""
        try:
            found = await self._backend.ask(GetCapacity(), CapacityReply)
        except HeadgateError:
            return None
        return {"total": _amounts(found.total), "taken": _amounts(found.taken)}

    async def _count(self, principal: Principal) -> Json:
        """What there is in the caller's workspaces; where all are, in the usual one."""
        names = {
            self._workspace if name == ANY_WORKSPACE else name for name in principal.workspaces
        }
        endpoints = 0
        deployments: list[Deployment] = []
        try:
            for name in sorted(names):
                endpoints += len(await self._backend.endpoints(name))
                query = ListDeployments(workspace=name)
                deployments += (await self._backend.ask(query, DeploymentsReply)).deployments
        except HeadgateError:
            return {"endpoints": None, "deployments": None, "readyInstances": None}
        return {
            "endpoints": endpoints,
            "deployments": len(deployments),
            "readyInstances": sum(item.ready_instances for item in deployments),
        }

    async def _ping(self) -> list[Json]:
        """Who answers the discovery protocol within a short time."""
        found: list[Json] = []
        nc, clock = self._backend.bus.nc, self._backend.clock
        if not nc.is_connected:
            return found
        inbox = nc.new_inbox()
        with contextlib.suppress(NatsError, ValueError):  # a bus that goes away ends the round
            subscription = await nc.subscribe(inbox)
            await nc.publish(_PING, b"", reply=inbox)
            deadline = clock.monotonic() + _PING_WAIT_S
            with contextlib.suppress(NatsTimeoutError):
                while (left := deadline - clock.monotonic()) > 0 and len(found) < _SERVICES_MAX:
                    said = json.loads((await subscription.next_msg(timeout=left)).data or b"{}")
                    if {"name", "id", "version"} <= said.keys():
                        found.append({key: str(said[key]) for key in ("name", "id", "version")})
            await subscription.unsubscribe()
        return found

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET",
                "/livez",
                self.live,
                "Tell whether the process lives",
                reply=_HEALTH,
                public=True,
            ),
            Route(
                "GET",
                "/readyz",
                self.ready,
                "Tell whether requests can be served",
                reply=_HEALTH,
                answers={200: "ready", 503: "not ready"},
                public=True,
            ),
            Route("GET", "/", self.index, "Tell what this is", reply=_INDEX, action=Action.ANY),
            Route(
                "GET",
                "/openapi.json",
                self.openapi,
                "Read this document",
                reply={"type": "object"},
                action=Action.ANY,
            ),
            Route(
                "GET",
                "/status",
                self.status,
                "Tell which services are up",
                reply=_STATUS,
                action=Action.ANY,
            ),
        )


def _amounts(amounts: Amounts) -> Json:
    memory_gib = round(amounts.memory_bytes / 1024**3, 2)
    return {"cores": round(amounts.cores, 3), "memoryGib": memory_gib, "gpus": amounts.gpus}
