"""Assembles the provisioner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.azure import instance_types
from headgate.provisioner import host
from headgate.provisioner.artefacts import Artefacts
from headgate.provisioner.building import Builds
from headgate.provisioner.capacity import Ledger, Size, size_of
from headgate.provisioner.console import ConsoleLog
from headgate.provisioner.drivers.both import Drivers
from headgate.provisioner.drivers.docker import DockerDriver
from headgate.provisioner.drivers.engine import Engine
from headgate.provisioner.drivers.process import ProcessDriver
from headgate.provisioner.environments import Environments
from headgate.provisioner.fleet import Tools
from headgate.provisioner.handlers import Handlers
from headgate.provisioner.images import Images
from headgate.provisioner.nodes.node import Tools as NodeTools
from headgate.provisioner.nodes.nodes import Nodes
from headgate.provisioner.nodes.reporting import Reporter
from headgate.provisioner.nodes.standing import Standing
from headgate.provisioner.preparing import Preparer
from headgate.provisioner.reconciler import Reconciler
from headgate.provisioner.refreshing import Refresher
from headgate.provisioner.shipping import Shipper
from headgate.provisioner.state import Memory
from headgate.provisioner.tokens import Tokens
from headgate.provisioner.values import Backoff
from headgate.provisioner.venvs import Venvs
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.places import open_places
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings, inherited, supervisor_identity
from headgate.runtime.store import Store


async def build(
    settings: Settings, bus: Bus, clock: Clock, *, stop_instances: bool = True
) -> Service:
    """The provisioner with its database and the processes of this machine.

    ``stop_instances``: an orderly stop of the service drains and ends the instances. A crash never
    does: the next run adopts them.
    """
    memory = await Memory.open(settings.database_url("provisioner"), bus)
    engine = Engine()
    total = host.capacity(settings)
    types = instance_types.load(settings.instance_types)

    def size(name: str) -> Size:
        return size_of(types.find(name), total, strict=not settings.elastic_types)

    drivers = _drivers(settings, bus, engine, host.gpus(total.gpus))
    store = Store(settings.store_url())
    shipper = Shipper(settings.data / "collected", store, bus, clock, say=memory.say)
    tools = Tools(
        bus=bus,
        clock=clock,
        memory=memory,
        driver=drivers,
        tokens=Tokens(settings.keys_dir, clock),
        backoff=Backoff(first_s=settings.restart_backoff_s),
        drain_s=settings.drain_timeout_s,
        shipper=shipper,
        ledger=Ledger(total),
        size=size,
    )
    environments = _environments(settings, engine, store, memory)
    preparer = Preparer(
        bus,
        memory,
        Artefacts(store, settings.data / "artefacts"),
        environments,
        settings.data / "deployments",
    )
    reconciler = Reconciler(tools, preparer, tick_s=settings.reconcile_s)
    refresher = Refresher(
        bus,
        clock,
        memory,
        environments,
        lambda: [keeper.desire.deployment for keeper in reconciler.keepers()],
        every_s=settings.environment_refresh_hours * 3_600,
        note=settings.data / "environments.refreshed",
    )
    reporter = Reporter(bus)
    places = open_places(settings, store, bus)
    nodes = Nodes(
        NodeTools(
            bus=bus,
            clock=clock,
            driver=drivers,
            preparer=preparer,
            store=store,
            places=places,
            reporter=reporter,
            standing=Standing(settings.data / "standing_nodes"),
            size=size,
            ledger=tools.ledger,
            say=memory.say,
        )
    )
    reconciler.guests = nodes.alive

    console = ConsoleLog(
        bus,
        reconciler,
        preparer,
        settings.data / "console.json",
        settings.console_log_rows_per_s,
    )

    async def stop() -> None:
        await nodes.close()
        await reconciler.stop(stop_instances=stop_instances)
        await shipper.finish(reconciler.alive)
        await console.look()

    return Service(
        bus,
        description="Instances of deployments: wanted, observed, their logs",
        handlers={
            **Handlers(reconciler, preparer, shipper, refresher).table(),
            **nodes.table(),
        },
        starts=(reconciler.start, nodes.begin),
        loops={
            "reconcile": reconciler.reconcile,
            "housekeeping": reconciler.housekeeping,
            "collection": lambda: shipper.run(reconciler.alive),
            "console_log": console.run,
            "refresh": refresher.run,
            "mini_batch_reports": reporter.run,
            "standing_nodes": nodes.keep_standing,
            "outbox": memory.outbox.run,
        },
        stops=(memory.close, memory.outbox.drain, stop),
    )


def _drivers(settings: Settings, bus: Bus, engine: Engine, gpus: Sequence[str]) -> Drivers:
    common: dict[str, Any] = {
        "drain_timeout_s": settings.drain_timeout_s,
        "supervisor": supervisor_identity(),
    }
    links = settings.links_dir if settings.links else None
    return Drivers(
        ProcessDriver(settings.data, bus.url, gpus=gpus, links=links, **common),
        DockerDriver(settings.data, bus.url, engine, **common),
    )


def _environments(settings: Settings, engine: Engine, store: Store, memory: Memory) -> Environments:
    venvs = Builds(settings.data / "environments", say=memory.say)
    images = Builds(settings.data / "images", say=memory.say)
    return Environments(
        settings.driver,
        Venvs(venvs, inherited()),
        Images(engine, images, store, inherited(), default=settings.docker_image),
        engine.answers,
    )
