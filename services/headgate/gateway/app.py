"""Puts the gateway together: ``build`` is the only way to make one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Protocol

from headgate.azure import instance_types
from headgate.gateway.alerts import Alerts
from headgate.gateway.assets import KINDS, Assets
from headgate.gateway.authentication import Authenticator
from headgate.gateway.autoscale import Autoscale
from headgate.gateway.backend import Backend
from headgate.gateway.batch_deployments import BatchDeployments
from headgate.gateway.batch_endpoints import BatchEndpoints
from headgate.gateway.blobs import Blobs
from headgate.gateway.computes import Computes
from headgate.gateway.costs import Costs
from headgate.gateway.cursors import Cursors
from headgate.gateway.datastores import Datastores
from headgate.gateway.deployments import Deployments
from headgate.gateway.endpoints import Endpoints
from headgate.gateway.events import Events
from headgate.gateway.http import Edge, Handle
from headgate.gateway.idempotency import Repeater
from headgate.gateway.identities import Identities
from headgate.gateway.jobs import Jobs
from headgate.gateway.live import Live
from headgate.gateway.logs import Logs
from headgate.gateway.metrics import Metrics
from headgate.gateway.operations import Operations
from headgate.gateway.origins import Origins
from headgate.gateway.prometheus import Prometheus
from headgate.gateway.quotas import Quotas
from headgate.gateway.refreshes import Refreshes
from headgate.gateway.routes import Route, RouteTable
from headgate.gateway.run_history import RunHistory
from headgate.gateway.server import Listener
from headgate.gateway.sizes import Sizes
from headgate.gateway.sla import Slas
from headgate.gateway.storage import Storage
from headgate.gateway.studio import StudioProxy
from headgate.gateway.system import System
from headgate.gateway.tokens import Tokens
from headgate.gateway.workspaces import Workspaces
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.networks import networks_of
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate.runtime.trust import TrustFollower
from headgate.runtime.vault import Vault
from headgate_contracts.errors import ErrorCode, HeadgateError

DESCRIPTION = "Azure's REST API for online endpoints"
TOKEN_FILE = "admin.token"
TRUST_WAIT_S = 2.0


class Part(Protocol):
    """A family of routes."""

    def routes(self) -> tuple[Route[Handle], ...]: ...


class GatewayService(Service):
    """The service with its listener, whose address is known once it has started, and routes."""

    listener: Listener
    table: RouteTable[Handle]


async def build(
    settings: Settings, bus: Bus, clock: Clock, *, tls: ssl.SSLContext | None, scoring_url: str
) -> GatewayService:
    """The gateway. ``scoring_url`` is where clients reach the router."""
    trust = TrustFollower(bus)
    backend = Backend(bus, clock, Store(settings.store_url()), trust)
    events = Events(backend)
    live = Live(backend)
    system = System(
        backend, settings.workspace, lambda: service.ready.is_set() and bus.nc.is_connected
    )
    prometheus = Prometheus(backend)
    parts: tuple[Part, ...] = (
        system,
        Endpoints(backend),
        Deployments(backend),
        BatchEndpoints(backend),
        BatchDeployments(backend),
        Jobs(backend, networks_of(settings.private_networks)),
        RunHistory(backend),
        Logs(backend),
        Costs(backend),
        Metrics(backend, settings.metric_days),
        Quotas(backend, live.loads),
        Slas(backend),
        Alerts(backend),
        *(Assets(backend, kind) for kind in KINDS),
        Refreshes(backend),
        Datastores(backend),
        Computes(backend),
        Autoscale(backend),
        Workspaces(backend, settings.workspace),
        Operations(backend),
        Sizes(instance_types.load(settings.instance_types)),
        Tokens(backend),
        Identities(backend, settings.workspace),
        Blobs(backend),
        events,
        live,
        prometheus,
    )
    table = RouteTable(route for part in parts for route in part.routes())
    system.describe(table.routes)
    token = read_token(settings.keys_dir / TOKEN_FILE)
    authenticator = Authenticator(
        token,
        lambda: trust.trust,
        clock,
        failures_per_minute=settings.failed_auth_per_minute,
        origins=(origins := Origins()),
    )
    storage = Storage(backend, authenticator)
    studio = StudioProxy(settings.run_dir / "studio.sock", origins)
    edge = Edge(
        table,
        authenticator,
        Cursors(token),
        clock,
        scoring_url.rstrip("/"),
        Repeater(bus, Vault.open(settings.keys_dir), clock),
        storage.serve,
        studio.serve,
        bus.tell,
        require_if_match=settings.require_if_match,
        tracer=bus.tracer,
    )

    async def load_trust() -> None:
        # Tokens are told to come back later until it is known; the admin token needs none of it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRUST_WAIT_S):
                await trust.load()

    listener = Listener(edge, backend, settings.host, settings.port, tls)
    service = GatewayService(
        bus,
        description=DESCRIPTION,
        starts=(load_trust, events.start, live.start, prometheus.start, listener.start),
        loops={"trust": trust.run, "old_blocks": storage.sweep},
        stops=(studio.close, listener.stop),
    )
    service.listener = listener
    service.table = table
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
