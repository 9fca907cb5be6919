"""Assembles the logs service."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate.logs import core, intake, state
from headgate.logs.export import Export
from headgate.logs.handlers import Handlers
from headgate.logs.rows import VERSION_TABLE, PositionRow
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.intake import Intake
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import Database, open_database
from headgate_contracts.logs import Log

MIGRATIONS = Path(__file__).parent / "migrations"
FORGET_EVERY_S = 20.0
_DAY_S = 86_400.0


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The logs service on its database, ready to start."""
    database = await open_database(settings.database_url("logs"), MIGRATIONS, VERSION_TABLE)
    export = Export(bus.tracer.sink, clock) if bus.tracer else None
    tables = intake.Tables(export)
    logs = Intake(bus, database, PositionRow, intake.LOGS, tables.take, tables.hand_on)
    instances = Intake(bus, database, PositionRow, intake.INSTANCES, intake.Tables().take)

    async def forget() -> None:
        while True:
            before = clock.now() - settings.log_days * _DAY_S
            await forget_once(database, rows_max=settings.log_rows_max, before=before)
            await asyncio.sleep(FORGET_EVERY_S)

    return Service(
        bus,
        description="Log tables: requests, lines of deployments, events of instances",
        handlers=Handlers(database, clock).table(),
        loops={
            "logs": logs.run,
            "instances": instances.run,
            "forget": forget,
            **({"export": export.run} if export else {}),
        },
        stops=(database.close,),
    )


async def forget_once(database: Database, *, rows_max: int, before: float) -> None:
    """Bring every table within its limits, in small transactions, so that nobody waits long."""
    for log in Log:
        deleted = 1
        while deleted:
            async with database.transaction() as session:
                deleted = await state.forget_old(session, log, before)
        async with database.reading() as session:
            counts = await state.counts(session, log)
        for endpoint, share in core.shares(counts, rows_max).items():
            excess = counts[endpoint] - share
            while excess > 0:
                async with database.transaction() as session:
                    excess -= await state.forget_first(session, log, endpoint, excess) or excess
    async with database.transaction() as session:
        await state.forget_losses(session, before)
