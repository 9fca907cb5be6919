"""Assembles the registry."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate.azure import instance_types
from headgate.registry.asset_handlers import AssetHandlers
from headgate.registry.batch_handlers import BatchHandlers
from headgate.registry.handlers import Handlers
from headgate.registry.keys import Vault
from headgate.registry.quota_handlers import QuotaHandlers, Refusals
from headgate.registry.relay import Relay
from headgate.registry.rows import VERSION_TABLE, RegistryOutboxRow
from headgate.registry.storage_handlers import StorageHandlers
from headgate.runtime import vault
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import open_database

MIGRATIONS = Path(__file__).parent / "migrations"
_HOUSEKEEPING_S = 600.0


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The registry on its database, ready to start."""
    sizes = instance_types.load(settings.instance_types)
    sealing = vault.Vault.open(settings.keys_dir)
    database = await open_database(settings.database_url("registry"), MIGRATIONS, VERSION_TABLE)
    outbox = Outbox(database, RegistryOutboxRow, bus)
    relay = Relay(database, bus)
    refusals = Refusals(database, outbox, clock)
    handlers = Handlers(database, outbox, relay, Vault(sealing), clock, sizes, refusals)

    async def housekeeping() -> None:
        while True:
            await handlers.forget_operations()
            await asyncio.sleep(_HOUSEKEEPING_S)

    return Service(
        bus,
        description="Endpoints, deployments, assets, keys and operations",
        handlers={
            **handlers.table(),
            **AssetHandlers(database, outbox, clock).table(),
            **BatchHandlers(database, outbox, clock, refusals).table(),
            **QuotaHandlers(database, outbox, relay, clock).table(),
            **StorageHandlers(database, outbox, sealing, clock, sizes).table(),
        },
        loops={"outbox": outbox.run, "routes": relay.run, "housekeeping": housekeeping},
        stops=(database.close,),
    )
