"""The registry's tables. Values are stored as the JSON of their contract types."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime.outbox import SERIAL, SQLITE_ARGS, OutboxRow

VERSION_TABLE = "registry_version"
_tables = registry()
metadata = _tables.metadata


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


class EndpointRow(Row, table=True):
    __tablename__ = "registry_endpoint"

    name: str = Field(primary_key=True)
    workspace: str = Field(index=True)
    state: str
    spec: str = Field(sa_type=Text)
    keys: str = Field(sa_type=Text)
    operation_id: str
    revision: int = Field(sa_type=BigInteger)
    route_revision: int = Field(sa_type=BigInteger)
    tokens_not_before: float = 0.0
    created_at: float
    updated_at: float
    created_by: str = ""
    updated_by: str = ""


class DeploymentRow(Row, table=True):
    __tablename__ = "registry_deployment"

    endpoint: str = Field(sa_column=Column(ForeignKey("registry_endpoint.name"), primary_key=True))
    name: str = Field(primary_key=True)
    workspace: str
    state: str
    spec: str = Field(sa_type=Text)
    error: str = Field(sa_type=Text)
    scoring_path: str
    was_ready: bool
    is_stopped: bool = False
    environment_build: str = ""
    ready_instances: int
    operation_id: str
    generation: int = Field(sa_type=BigInteger)
    revision: int = Field(sa_type=BigInteger)
    created_at: float
    updated_at: float
    created_by: str = ""
    updated_by: str = ""


class AssetRow(Row, table=True):
    """One version of a model, an environment or a code folder; ``seq`` is the order of making."""

    __tablename__ = "registry_asset"
    __table_args__ = (
        UniqueConstraint("workspace", "kind", "name", "version"),
        Index("ix_registry_asset_sha256", "workspace", "sha256"),
        SQLITE_ARGS,
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    workspace: str
    kind: str
    name: str
    version: str
    number: int | None
    sha256: str
    spec: str = Field(sa_type=Text)
    revision: int = Field(sa_type=BigInteger)
    created_at: float
    updated_at: float
    created_by: str = ""
    updated_by: str = ""
    is_archived: bool = False


class ThingRow(Row, table=True):
    """A resource without a life of its own: datastore, compute, batch endpoint, batch deployment.

    ``name`` of a batch deployment is ``<endpoint>/<deployment>``. ``sealed`` holds credentials.
    """

    __tablename__ = "registry_thing"

    workspace: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    state: str = ""
    spec: str = Field(sa_type=Text)
    sealed: str = Field(default="", sa_type=Text)
    operation_id: str = ""
    revision: int = Field(sa_type=BigInteger)
    created_at: float
    updated_at: float
    created_by: str = ""
    updated_by: str = ""


class OperationRow(Row, table=True):
    __tablename__ = "registry_operation"

    id: str = Field(primary_key=True)
    workspace: str
    started_at: float = Field(index=True)
    status: str
    value: str = Field(sa_type=Text)


class CounterRow(Row, table=True):
    """The revision given out last; one row."""

    __tablename__ = "registry_counter"

    name: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)


class RegistryOutboxRow(Row, OutboxRow, table=True):
    __tablename__ = "registry_outbox"
    __table_args__ = (SQLITE_ARGS,)
