"""Assembles the autoscaler."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate.autoscaler import state
from headgate.autoscaler.handlers import Handlers
from headgate.autoscaler.rows import VERSION_TABLE, AutoscalerOutboxRow
from headgate.autoscaler.scaler import Scaler
from headgate.azure import instance_types
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import open_database
from headgate_contracts import limits

MIGRATIONS = Path(__file__).parent / "migrations"
_HOUSEKEEPING_S = 600.0


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The autoscaler on its database, ready to start."""
    sizes = instance_types.load(settings.instance_types)
    database = await open_database(settings.database_url("autoscaler"), MIGRATIONS, VERSION_TABLE)
    outbox = Outbox(database, AutoscalerOutboxRow, bus)
    scaler = Scaler(database, outbox, bus, clock, sizes)

    async def housekeeping() -> None:
        while True:
            now = clock.now()
            async with database.transaction() as session:
                await state.forget_decisions(session, now - limits.SCALE_DECISIONS_KEPT_S)
                await state.forget_cooldowns(session, now)
            await asyncio.sleep(_HOUSEKEEPING_S)

    return Service(
        bus,
        description="Changes the number of instances by rules, by schedules and by their load",
        handlers=Handlers(database, outbox, bus, scaler, clock).table(),
        starts=(scaler.start,),
        loops={
            "outbox": outbox.run,
            "deployments": scaler.deployments,
            "scaling": scaler.run,
            "housekeeping": housekeeping,
        },
        stops=(database.close,),
    )
