"""Assembles the identity service."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate.identity import state
from headgate.identity.handlers import Handlers
from headgate.identity.instances import Instances
from headgate.identity.oidc import Issuers
from headgate.identity.relay import Relay
from headgate.identity.rows import VERSION_TABLE, IdentityOutboxRow
from headgate.identity.signer import Signer
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import open_database
from headgate.runtime.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"
_HOUSEKEEPING_S = 600.0


async def build(settings: Settings, bus: Bus, clock: Clock) -> Service:
    """The identity service on its database, ready to start."""
    vault = Vault.open(settings.keys_dir)
    database = await open_database(settings.database_url("identity"), MIGRATIONS, VERSION_TABLE)
    signer = Signer(database, vault, clock)
    issuers = Issuers(settings)
    outbox = Outbox(database, IdentityOutboxRow, bus)
    relay = Relay(database, bus, signer, issuers.known)
    handlers = Handlers(database, outbox, relay, signer, clock)
    instances = Instances(bus, database, signer)

    async def housekeeping() -> None:
        while True:
            if await signer.rotate():
                relay.wake()
            async with database.transaction() as session:
                await state.forget_tokens(session, clock.now())
            await asyncio.sleep(_HOUSEKEEPING_S)

    async def watch_issuers() -> None:
        while True:
            await issuers.changed.wait()
            issuers.changed.clear()
            relay.wake()

    return Service(
        bus,
        description="Tokens, the keys that check them, and managed identities",
        handlers=handlers.table(),
        starts=(signer.open, instances.start),
        loops={
            "outbox": outbox.run,
            "trust": relay.run,
            "housekeeping": housekeeping,
            "issuers": issuers.run,
            "issuer changes": watch_issuers,
        },
        stops=(database.close,),
    )
