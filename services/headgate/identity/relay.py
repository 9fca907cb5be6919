"""Keeps the trust bucket equal to what follows from the rows, and from other issuers' keys.

Level-triggered like every relay here: a commit only says "look again", and everything is compared
at start, after a reconnect and now and then besides. So a lost hint or an emptied bucket heals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from headgate.identity import core, state
from headgate.identity.signer import Signer
from headgate.runtime.buckets import BucketWriter
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import streams
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import Issuer, Trust

COMPARE_S = 30.0
_RETRY_S = 0.5
_TRIES_MAX = 5


class Relay:
    """Writes what checks tokens: ``wake`` after a commit, ``run`` for ever."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        signer: Signer,
        others: Callable[[], Sequence[Issuer]],
    ) -> None:
        self._database = database
        self._bucket = BucketWriter(bus, streams.TRUST.name)
        self._bus = bus
        self._signer = signer
        self._others = others
        self._log = Log(bus.service)
        self._woken = asyncio.Event()
        bus.on_reconnect(self._on_reconnect)

    def wake(self) -> None:
        """Say that trust may have changed."""
        self._woken.set()

    async def _on_reconnect(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            self._woken.clear()
            wait_s = COMPARE_S
            try:
                await self.write()
            except (HeadgateError, TimeoutError) as error:
                self._log.warning("trust_waits", error=str(error) or type(error).__name__)
                wait_s = _RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def write(self) -> None:
        """Compare once, and write what differs."""
        for _ in range(_TRIES_MAX):
            found = await self._bucket.get(streams.TRUST_KEY)
            wanted = await self._wanted()
            known = _parsed(found.value)
            if known is not None and known == wanted.model_copy(
                update={"revision": known.revision}
            ):
                return
            revision = known.revision + 1 if known else 1
            value = wanted.model_copy(update={"revision": revision}).model_dump_json().encode()
            if await self._bucket.replace(streams.TRUST_KEY, found, value):
                self._log.info("trust_written", revision=revision, revoked=len(wanted.revoked))
                return
        raise HeadgateError(ErrorCode.RESOURCE_CONFLICT, "another writer keeps changing the trust")

    async def _wanted(self) -> Trust:
        async with self._database.reading() as session:
            keys = await state.signing_keys(session)
            tokens = await state.tokens(session)
        now = self._bus.clock.now()
        return core.trust(self._signer.installation, keys, tokens, self._others(), now)


def _parsed(value: bytes | None) -> Trust | None:
    try:
        return Trust.model_validate_json(value) if value else None
    except ValidationError:
        return None
