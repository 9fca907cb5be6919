"""Puts the gateway together: ``build`` is the only way to make one."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from aiohttp import web

from headgate.gateway.assets import KINDS, Assets
from headgate.gateway.backend import Backend
from headgate.gateway.blobs import Blobs
from headgate.gateway.deployments import Deployments
from headgate.gateway.endpoints import Endpoints
from headgate.gateway.events import Events
from headgate.gateway.http import Edge, Handle
from headgate.gateway.operations import Operations
from headgate.gateway.routes import Route, RouteTable
from headgate.gateway.system import System
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError

DESCRIPTION = "Azure's REST API for online endpoints"
TOKEN_FILE = "admin.token"
KEEP_ALIVE_S = 75.0
SHUTDOWN_S = 5.0


class Part(Protocol):
    """A family of routes."""

    def routes(self) -> tuple[Route[Handle], ...]: ...


class Listener:
    """The listening socket. ``port`` is the real one, also when the setting says 0."""

    def __init__(
        self, edge: Edge, backend: Backend, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        self._edge = edge
        self._backend = backend
        self._host = host
        self.port = port
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        self._runner = web.AppRunner(
            self._edge.app,
            access_log=None,
            # A compressed body is refused, so it must arrive as it was sent.
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                f"the gateway cannot listen on {self._host} port {self.port}: {error.strerror}; "
                "choose another with --port (0 takes a free one)",
                target="port",
            ) from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """No new connections; streams end, requests in hand are finished."""
        self._backend.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()


class GatewayService(Service):
    """The service with its listener, whose address is known once it has started."""

    listener: Listener


async def build(
    settings: Settings, bus: Bus, clock: Clock, *, tls: ssl.SSLContext | None, scoring_url: str
) -> GatewayService:
    """The gateway. ``scoring_url`` is where clients reach the router."""
    backend = Backend(bus, clock, Store(settings.store_url()))
    events = Events(backend)
    system = System(backend, lambda: service.ready.is_set() and bus.nc.is_connected)
    parts: tuple[Part, ...] = (
        system,
        Endpoints(backend),
        Deployments(backend),
        *(Assets(backend, kind) for kind in KINDS),
        Operations(backend),
        Blobs(backend),
        events,
    )
    table = RouteTable(route for part in parts for route in part.routes())
    system.describe(table.routes)
    edge = Edge(table, read_token(settings.keys_dir / TOKEN_FILE), clock, scoring_url.rstrip("/"))
    listener = Listener(edge, backend, settings.host, settings.port, tls)
    service = GatewayService(
        bus,
        description=DESCRIPTION,
        starts=(events.start, listener.start),
        stops=(listener.stop,),
    )
    service.listener = listener
    return service


def read_token(path: Path) -> str:
    """The admin token, without which the gateway does not start."""
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{path} holds no admin token; 'headgate up' makes one, or put one there (mode 0600)",
            target="keys_dir",
        )
    return token
