"""Assembly of the router: connections, table, edges, in the order in which they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from nats.errors import Error as NatsError

from headgate import __version__
from headgate.router import allocator, anchor, compiled
from headgate.router.dispatch import Dispatcher
from headgate.router.entry import BusEntry
from headgate.router.ingress import Ingress
from headgate.router.lane import Lane
from headgate.router.load import LoadReporter
from headgate.router.metrics_page import MetricsPage
from headgate.router.quota_keeper import QuotaKeeper
from headgate.router.routes import RouteFollower
from headgate.router.scoring import Scoring
from headgate.router.spool import Spools
from headgate.router.table import Instance, Table
from headgate.router.tokens import TokenGate
from headgate.router.trace import TraceLog
from headgate.router.traffic_log import TrafficLog
from headgate.router.usage import UsageTeller
from headgate.router.usage_journal import Journal
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock, short_id
from headgate.runtime.log import Log
from headgate.runtime.networks import networks_of
from headgate.runtime.prometheus import LoadPage, family
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.trust import TrustFollower
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import InstanceEvent
from headgate_contracts.routing import (
    GetTraffic,
    InstanceQuarantined,
    InstanceReleased,
    TrafficReply,
)

# Before the port opens, every instance that lives has said so at least once.
LISTEN_BEFORE_SERVING_S = 2 * limits.HEARTBEAT_INTERVAL_S

_log = Log("router")


class Router:
    """All parts of one router."""

    def __init__(
        self, settings: Settings, bus: Bus, clock: Clock, tls: ssl.SSLContext | None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tls = tls
        self._since = clock.now()
        self.id = short_id()
        self.table = Table(self.id)
        self.lane = Lane(bus.url, bus.creds, "headgate-router-scoring")
        self.dispatcher = Dispatcher(
            self.lane,
            self.table,
            clock,
            self._tell_quarantine,
            self._tell_hold,
            settings.body_bytes_max,
            settings.links_dir if settings.links else None,
        )
        self.spools = Spools(settings.run_dir / "spool", limits.SPOOLED_BYTES_MAX)
        self._bus = bus
        self._telling: set[asyncio.Task[None]] = set()
        self.routes = RouteFollower(bus, self.table)
        self.trust = TrustFollower(bus)
        gate = TokenGate(self.trust)
        self.traces = TraceLog(bus, self.id, settings.trace_share, follows=bool(settings.otlp_url))
        self.traffic_log = TrafficLog(bus, self.id, settings.traffic_log_rows_per_s)
        journal = Journal(settings.usage_dir, f"{self.id}{short_id()}", clock)
        self.usage = UsageTeller(bus, journal, settings.usage_dir)
        self.quotas = QuotaKeeper(bus, self.table.meters, self.id, journal.reporter)
        scoring = Scoring(
            self.table,
            self.dispatcher,
            self.lane,
            gate,
            clock,
            self.traffic_log,
            self.traces,
            journal,
            settings.body_bytes_max,
            self.spools,
        )
        self.entry = BusEntry(scoring, self.lane, self.id)
        self.ingress = Ingress(
            scoring, self.is_ready, clock, networks_of(settings.private_networks)
        )
        self.load = LoadReporter(bus, self.table, self.ingress, self._since)
        page = LoadPage(self._since, __version__)
        self.metrics_page = MetricsPage(
            settings.host,
            settings.router_metrics_port,
            lambda: page.text(clock.monotonic()) + _own_figures(),
        )
        if settings.router_metrics_port:
            self.load.tell(page.hear)

    def is_ready(self) -> bool:
        return self.routes.loaded.is_set() and self.lane.up

    async def start(self) -> None:
        """Know the routes and the instances, then open the doors."""
        allocator.keep_freed()
        form = compiled.state()
        if form == "stale":
            _log.warning("scoring_path_outdated", hint="run python -m headgate.compile again")
        else:
            _log.info("scoring_path", form=form)
        self.dispatcher.start()
        self.usage.start()
        try:
            await self.lane.open()
        except ConnectionError as error:
            raise HeadgateError(ErrorCode.UNAVAILABLE, str(error)) from None
        await asyncio.gather(self.routes.load(), self.trust.load())
        await asyncio.gather(asyncio.sleep(LISTEN_BEFORE_SERVING_S), self.quotas.start())
        await self.metrics_page.start()
        self.entry.start()
        await self.lane.sync()
        given = self._settings
        await self.ingress.start(given.host, given.scoring_port, self._tls, given.scoring_fd)

    async def stop(self) -> None:
        await asyncio.gather(self.ingress.stop(), self.entry.stop())
        self.dispatcher.stop()
        await self.lane.close()
        await self.load.say(is_last=True)
        await self.metrics_page.stop()
        await self.traffic_log.say()
        await self.traces.say()
        await self.usage.stop()

    def _tell_hold(self) -> None:
        self.load.soon()

    def _tell_quarantine(self, instance: Instance, seconds: float) -> None:
        deployment = instance.deployment
        route = deployment.endpoint.route
        about: dict[str, Any] = {
            "workspace": route.workspace if route else "",
            "endpoint": deployment.endpoint.name,
            "deployment": deployment.name,
            "instance": instance.id,
            "router": self.id,
        }
        if seconds:
            event: InstanceEvent = InstanceQuarantined(
                **about, seconds=seconds, failures=instance.failures
            )
            _log.warning("instance_quarantined", **about, seconds=seconds)
        else:
            event = InstanceReleased(**about)
            _log.info("instance_released", **about)
        task = asyncio.create_task(self._tell(event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, event: InstanceEvent) -> None:
        with contextlib.suppress(NatsError):  # the bus is away; answers about traffic say the same
            await self._bus.tell(event)

    async def traffic(self, query: GetTraffic) -> TrafficReply:
        endpoint, now = self.table.endpoint(query.endpoint), self._clock.monotonic()
        return TrafficReply(
            router=self.id,
            since=self._since,
            deployments={
                name: deployment.traffic.snapshot(
                    in_flight=deployment.in_flight,
                    ready_instances=len(deployment.ready),
                    quarantined={
                        each.id: round(max(0.0, each.out_until - now), 1)
                        for each in deployment.able
                        if each.left_out
                    },
                )
                for name, deployment in (endpoint.deployments if endpoint else {}).items()
            },
            refused=dict(endpoint.refused) if endpoint else {},
        )


def _own_figures() -> str:
    """What only a router's own page tells: of its process."""
    tasks = [((), len(asyncio.all_tasks()))]
    return family("headgate_router_tasks", "gauge", "Tasks of this router's event loop.", tasks)


def assemble(
    settings: Settings, bus: Bus, clock: Clock, *, tls: ssl.SSLContext | None = None
) -> tuple[Service, Router]:
    """The service and its parts."""
    router = Router(settings, bus, clock, tls)
    service = Service(
        bus,
        description="Carries scoring requests from clients to instances",
        handlers={GetTraffic: router.traffic},
        shared=False,
        starts=(router.start,),
        loops={
            "routes": router.routes.run,
            "trust": router.trust.run,
            "load": router.load.run,
            "traffic_log": router.traffic_log.run,
            "traces": router.traces.run,
            "usage": router.usage.run,
            "quotas": router.quotas.run,
            "anchor": anchor.keep,
        },
        stops=(router.stop,),
    )
    return service, router


async def build(
    settings: Settings, bus: Bus, clock: Clock, *, tls: ssl.SSLContext | None = None
) -> Service:
    """The router as a service. ``tls`` None serves plain HTTP."""
    return assemble(settings, bus, clock, tls=tls)[0]
