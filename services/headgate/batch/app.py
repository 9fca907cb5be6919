"""Assembles the batch service."""

from __future__ import annotations

from pathlib import Path

from headgate.batch.dispatcher import Dispatcher
from headgate.batch.driver import Tools
from headgate.batch.handlers import Handlers
from headgate.batch.intake import Allowed, Intake
from headgate.batch.pool import Pool
from headgate.batch.queueing import WorkQueue
from headgate.batch.rows import VERSION_TABLE, BatchOutboxRow
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.places import open_places
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate.runtime.tables import open_database

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The batch service on its database, ready to start."""
    database = await open_database(settings.database_url("batch"), MIGRATIONS, VERSION_TABLE)
    outbox = Outbox(database, BatchOutboxRow, bus)
    store = Store(settings.store_url())
    places = open_places(settings, store, bus)
    tools = Tools(database, outbox, WorkQueue(bus), places, store, clock)
    dispatcher = Dispatcher(tools)
    pool = Pool(bus, tools, dispatcher.wake)
    allowed = Allowed(settings.batch_inputs.split(), settings.batch_outputs.split())
    intake = Intake(bus, clock, database, places, allowed)
    return Service(
        bus,
        description="Batch jobs: mini-batches, their results, the nodes that work on them",
        handlers=Handlers(tools, intake, dispatcher, pool).table(),
        starts=(pool.listen,),
        loops={
            "outbox": outbox.run,
            "jobs": dispatcher.run,
            "pool": pool.run,
            "housekeeping": dispatcher.housekeeping,
        },
        stops=(database.close, dispatcher.stop),
    )
