"""What the identity service remembers: rows become values and values rows."""

from __future__ import annotations

import json

from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.identity.core import Installation, SigningKey
from headgate.identity.rows import FactRow, ManagedRow, SigningKeyRow, TokenRow
from headgate_contracts.identity import AccessToken, ManagedIdentity

_INSTALLATION = "installation"


async def installation(session: AsyncSession, fresh_id: str) -> Installation:
    """Whose tokens these are; ``fresh_id`` is taken on the first start."""
    row = await session.get(FactRow, _INSTALLATION)
    if row is None:
        row = FactRow(name=_INSTALLATION, value=fresh_id)
        session.add(row)
    return Installation(row.value)


# --- signing keys ------------------------------------------------------------------------------


async def signing_keys(session: AsyncSession) -> list[SigningKey]:
    """All keys, oldest first."""
    rows = (await session.exec(select(SigningKeyRow).order_by(col(SigningKeyRow.created_at)))).all()
    return [SigningKey(row.kid, json.loads(row.public), row.sealed, row.created_at) for row in rows]


async def add_signing_key(session: AsyncSession, key: SigningKey) -> None:
    public = json.dumps(dict(key.jwk))
    session.add(
        SigningKeyRow(kid=key.kid, public=public, sealed=key.sealed, created_at=key.created_at)
    )


async def forget_signing_keys(session: AsyncSession, keys: list[SigningKey]) -> None:
    kids = [key.kid for key in keys]
    await session.exec(delete(SigningKeyRow).where(col(SigningKeyRow.kid).in_(kids)))


# --- tokens ------------------------------------------------------------------------------------


async def token(session: AsyncSession, token_id: str) -> AccessToken | None:
    row = await session.get(TokenRow, token_id)
    return AccessToken.model_validate_json(row.value) if row else None


async def tokens(session: AsyncSession) -> list[AccessToken]:
    """Newest first."""
    query = select(TokenRow).order_by(col(TokenRow.created_at).desc(), col(TokenRow.id))
    rows = (await session.exec(query)).all()
    return [AccessToken.model_validate_json(row.value) for row in rows]


async def count_living_tokens(session: AsyncSession, now: float) -> int:
    query = select(func.count()).select_from(TokenRow)
    query = query.where(col(TokenRow.expires_at) > now, col(TokenRow.is_revoked).is_(False))
    return (await session.exec(query)).one()


async def save_token(session: AsyncSession, value: AccessToken) -> None:
    await session.merge(
        TokenRow(
            id=value.id,
            created_at=value.created_at,
            expires_at=value.expires_at,
            is_revoked=value.revoked_at is not None,
            value=value.model_dump_json(),
        )
    )


async def forget_tokens(session: AsyncSession, expired_before: float) -> None:
    await session.exec(delete(TokenRow).where(col(TokenRow.expires_at) < expired_before))


# --- managed identities ------------------------------------------------------------------------


async def managed(
    session: AsyncSession, workspace: str, kind: str, name: str
) -> ManagedIdentity | None:
    row = await session.get(ManagedRow, (workspace, kind, name))
    return ManagedIdentity.model_validate_json(row.value) if row else None


async def all_managed(session: AsyncSession, workspace: str) -> list[ManagedIdentity]:
    """By kind and name."""
    query = select(ManagedRow).where(ManagedRow.workspace == workspace)
    rows = (await session.exec(query.order_by(ManagedRow.kind, ManagedRow.name))).all()
    return [ManagedIdentity.model_validate_json(row.value) for row in rows]


async def save_managed(session: AsyncSession, value: ManagedIdentity) -> None:
    await session.merge(
        ManagedRow(
            workspace=value.workspace,
            kind=value.kind,
            name=value.name,
            value=value.model_dump_json(),
        )
    )


async def forget_managed(session: AsyncSession, workspace: str, kind: str, name: str) -> None:
    await session.exec(
        delete(ManagedRow).where(
            col(ManagedRow.workspace) == workspace,
            col(ManagedRow.kind) == kind,
            col(ManagedRow.name) == name,
        )
    )
