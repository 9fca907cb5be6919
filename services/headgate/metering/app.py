"""Assembles the metering service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from headgate.azure import instance_types
from headgate.metering import alert_state, core, intake, intake_of_batch, state
from headgate.metering.accounts import Watch
from headgate.metering.alerts import Alerts
from headgate.metering.deliveries import Deliverer
from headgate.metering.handlers import Handlers
from headgate.metering.metrics import Metrics
from headgate.metering.rows import VERSION_TABLE, InstanceRow, MeteringOutboxRow, PositionRow
from headgate.metering.sla import Sla
from headgate.metering.tags import TagKeeper
from headgate.metering.windows import Windows
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.intake import Intake, Source, Take
from headgate.runtime.log import Log
from headgate.runtime.networks import networks_of
from headgate.runtime.outbox import Outbox
from headgate.runtime.remote import Remote
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import Database, open_database
from headgate.runtime.vault import Vault
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.metrics import QueryMetrics

MIGRATIONS = Path(__file__).parent / "migrations"
BUDGETS_EVERY_S = 30.0
SLA_EVERY_S = 30.0
TAGS_EVERY_S = 30.0
FORGET_EVERY_S = 60.0
_DAY_S = 86_400.0

_log = Log("metering")


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The metering service on its database, ready to start."""
    types = instance_types.load(settings.instance_types)
    database = await open_database(settings.database_url("metering"), MIGRATIONS, VERSION_TABLE)
    outbox = Outbox(database, MeteringOutboxRow, bus)
    sla = Sla(database, outbox, clock)
    vault = Vault.open(settings.keys_dir)
    remote = Remote(
        settings.alert_urls.split(),
        networks_of(settings.alert_networks),
        idle_s=limits.DELIVERY_TIMEOUT_S,
        total_s=limits.DELIVERY_TIMEOUT_S,
    )
    alerts = Alerts(bus, database, vault, remote)
    deliverer = Deliverer(database, alerts, vault, remote, clock)
    metrics = Metrics(bus, database, types, sla)
    taken_in: dict[str, tuple[Source, Take]] = {
        "usage": (intake.USAGE, intake.usage_taker(bus)),
        "instances": (intake.INSTANCES, intake.instance_taker(types, metrics.note_started)),
        "nodes": (intake_of_batch.NODES, intake_of_batch.node_taker(types)),
        "mini_batches": (intake_of_batch.MINI_BATCHES, intake_of_batch.mini_batch_taker(bus)),
    }
    intakes = {
        name: Intake(bus, database, PositionRow, source, take)
        for name, (source, take) in taken_in.items()
    }
    watch = Watch(database, outbox, clock, types.currency)
    tags = TagKeeper(bus, database)

    async def take_prices() -> None:
        await reprice(database, types, clock.now())

    async def forget() -> None:
        await forget_once(database, clock.now())
        async with database.transaction() as session:
            before = clock.now() - settings.metric_days * _DAY_S
            await state.forget_metrics(session, before, settings.metric_rows_max)
            await alert_state.forget(session, clock.now())
        await sla.forget()

    return Service(
        bus,
        description="The ledger of usage: costs, budgets, metrics",
        handlers={
            **Handlers(database, clock, types.currency).table(),
            QueryMetrics: metrics.query,
            **Windows(database, clock).table(),
            **sla.table(),
            **alerts.table(),
        },
        starts=(take_prices, sla.start, alerts.start, metrics.start),
        loops={
            **{name: each.run for name, each in intakes.items()},
            "metrics": metrics.run,
            "outbox": outbox.run,
            "budgets": _every(BUDGETS_EVERY_S, watch.look),
            "alerts": alerts.run,
            "deliveries": deliverer.run,
            "sla": _every(SLA_EVERY_S, sla.look),
            "tags": _every(TAGS_EVERY_S, tags.look),
            "forget": _every(FORGET_EVERY_S, forget),
        },
        stops=(database.close,),
    )


def _every(wait_s: float, step: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def loop() -> None:
        while True:
            try:
                await step()
            except HeadgateError as error:  # somebody is away
                _log.warning("step_waits", error=str(error))
            await asyncio.sleep(wait_s)

    return loop


async def reprice(database: Database, types: InstanceTypes, now: float) -> None:
    """Take the price list in: what runs costs the new price from now on."""
    async with database.transaction() as session:
        await state.set_gb_price(session, str(types.price_per_gb), now)
        for row in await state.running(session):
            price = intake.price_of(types, row.instance_type)
            if price != row.price_per_hour and now > row.began_at:
                row.ended_at = now
                changes = {"began_at": now, "ended_at": None, "price_per_hour": price}
                session.add(row)
                session.add(InstanceRow(**{**row.model_dump(), **changes}))


async def forget_once(database: Database, now: float) -> None:
    """Add old minutes up to hours, an hour at a time, and forget what is too old."""
    before = core.hour_of(now - limits.LEDGER_MINUTES_KEPT_S)
    may_have_more = True
    while may_have_more:
        async with database.transaction() as session:
            may_have_more = await state.fold_an_hour(session, before)
    async with database.transaction() as session:
        await state.forget_usage(session, core.hour_of(now - limits.LEDGER_HOURS_KEPT_S))
        await state.forget_instances(session, now - limits.LEDGER_HOURS_KEPT_S)
        await state.forget_reporters(session, now - 2 * limits.USAGE_AGE_S_MAX)
