"""The identity service's tables. No token is in any of them, and no private key unsealed."""

from __future__ import annotations

from sqlalchemy import Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime.outbox import SQLITE_ARGS, OutboxRow

VERSION_TABLE = "identity_version"
_tables = registry()
metadata = _tables.metadata


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


class SigningKeyRow(Row, table=True):
    """A key pair; ``public`` is the JWK as JSON, ``sealed`` the private half."""

    __tablename__ = "identity_signing_key"

    kid: str = Field(primary_key=True)
    public: str = Field(sa_type=Text)
    sealed: str = Field(sa_type=Text)
    created_at: float


class TokenRow(Row, table=True):
    """What is known of a long-lived token, as the JSON of its contract value."""

    __tablename__ = "identity_token"

    id: str = Field(primary_key=True)
    created_at: float
    expires_at: float = Field(index=True)
    is_revoked: bool
    value: str = Field(sa_type=Text)


class ManagedRow(Row, table=True):
    """A managed identity whose roles somebody has set, as the JSON of its contract value."""

    __tablename__ = "identity_managed"

    workspace: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)


class FactRow(Row, table=True):
    """Facts about the installation: its id."""

    __tablename__ = "identity_fact"

    name: str = Field(primary_key=True)
    value: str


class IdentityOutboxRow(Row, OutboxRow, table=True):
    __tablename__ = "identity_outbox"
    __table_args__ = (SQLITE_ARGS,)
