"""Signs tokens with the newest key, makes a new one in time, and forgets the oldest."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.identity import core, signing, state
from headgate.identity.core import Installation, SigningKey
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.tables import Database
from headgate.runtime.vault import Vault
from headgate_contracts.identity import Grant, StorageScope


class Signer:
    """The keys of this installation: ``open`` before anything else, ``rotate`` now and then."""

    installation: Installation

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock
        self._key: SigningKey | None = None
        self._private: Any = None

    async def open(self) -> None:
        """Know the installation, and have a key that signs."""
        async with self._database.transaction() as session:
            self.installation = await state.installation(session, str(uuid.uuid4()))
        await self.rotate()

    async def rotate(self) -> bool:
        """A new key when the newest is old; whether any key changed.

        Another process of this service may have made one: what is stored decides.
        """
        now = self._clock.now()
        async with self._database.transaction() as session:
            keys = await state.signing_keys(session)
            current = core.signer(keys, now)
            if current is None:
                current = signing.make(self._vault, new_id(), now)
                await state.add_signing_key(session, current)
                keys.append(current)
            gone = core.retired(keys, now)
            await state.forget_signing_keys(session, gone)
        changed = self._key is None or current.kid != self._key.kid
        self._use(current)
        return changed or bool(gone)

    async def replace(self, session: AsyncSession, *, drop_old: bool) -> SigningKey:
        """A new key at once, as part of the session's transaction; :meth:`rotate` follows it."""
        keys = await state.signing_keys(session)
        if drop_old:
            await state.forget_signing_keys(session, keys)
        fresh = signing.make(self._vault, new_id(), self._clock.now())
        await state.add_signing_key(session, fresh)
        return fresh

    def _use(self, key: SigningKey) -> None:
        if self._key is None or key.kid != self._key.kid:
            self._private = signing.opened(self._vault, key)
            self._key = key

    def sign(
        self,
        *,
        subject: str,
        name: str,
        audiences: Sequence[str],
        grants: Sequence[Grant],
        token_id: str,
        lifetime_s: float,
        now: float | None = None,
        via: str = "",
        storage: StorageScope | None = None,
    ) -> tuple[str, float]:
        """A token signed at ``now`` (this moment if None), and when it expires."""
        assert self._key is not None, "open() comes first"
        claims = core.claims(
            self.installation,
            subject=subject,
            name=name,
            audiences=audiences,
            grants=grants,
            token_id=token_id,
            now=self._clock.now() if now is None else now,
            lifetime_s=lifetime_s,
            via=via,
            storage=storage,
        )
        return signing.sign(self._private, self._key.kid, claims), float(claims["exp"])
