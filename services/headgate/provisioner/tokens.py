"""Bus credentials of instances: short-lived, made per instance, renewed while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from headgate.provisioner.drivers import Driver
from headgate.provisioner.state import Record
from headgate.runtime import keyring
from headgate.runtime.clock import Clock

LIFETIME_S = 24 * 3_600.0
RENEW_AFTER_S = LIFETIME_S / 2


class Tokens:
    """Mints worker tokens; on a bus without keys they are empty."""

    def __init__(self, keys: Path, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def mint(self, endpoint: str, deployment: str, instance: str, lanes: int) -> str:
        """A token for the process of an instance, which may be several lanes."""
        if not keyring.creds_path(self._keys, "provisioner").exists():
            return ""
        return keyring.mint_worker_token(
            self._keys,
            endpoint,
            deployment,
            instance,
            expires_at=self._clock.now() + LIFETIME_S,
            lanes=lane_ids(instance, lanes),
        )

    async def renew(self, driver: Driver, records: Iterable[Record]) -> None:
        """New tokens for running instances whose tokens have passed half of their life."""
        for record in records:
            if driver.token_age_s(record.id, self._clock.now()) > RENEW_AFTER_S:
                token = self.mint(*record.key, record.id, record.lanes)
                await asyncio.to_thread(driver.renew_token, record.id, token)


def lane_ids(instance: str, lanes: int) -> tuple[str, ...]:
    """The instance ids that share one process: ``<id>``, ``<id>-1``, ..."""
    return (instance, *(f"{instance}-{lane}" for lane in range(1, lanes)))
