"""The autoscaler's tables. Values are stored as the JSON of their contract types."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime.outbox import SERIAL, SQLITE_ARGS, OutboxRow

VERSION_TABLE = "autoscaler_version"
_tables = registry()
metadata = _tables.metadata


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


class SettingRow(Row, table=True):
    """A setting; a deployment has at most one."""

    __tablename__ = "autoscaler_setting"
    __table_args__ = (Index("ix_autoscaler_setting_of", "endpoint", "deployment", unique=True),)

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    endpoint: str
    deployment: str
    revision: int = Field(sa_type=BigInteger)
    value: str = Field(sa_type=Text)


class DecisionRow(Row, table=True):
    """A decision; ``seq`` is the order of deciding."""

    __tablename__ = "autoscaler_decision"
    __table_args__ = (
        Index("ix_autoscaler_decision_of", "endpoint", "deployment", "seq"),
        SQLITE_ARGS,
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    workspace: str = Field(index=True)
    endpoint: str
    deployment: str
    at: float = Field(index=True)
    value: str = Field(sa_type=Text)


class CooldownRow(Row, table=True):
    """Until when rules leave a deployment alone, as Unix time."""

    __tablename__ = "autoscaler_cooldown"

    endpoint: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    until: float


class CounterRow(Row, table=True):
    """The revision given out last; one row."""

    __tablename__ = "autoscaler_counter"

    name: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)


class AutoscalerOutboxRow(Row, OutboxRow, table=True):
    __tablename__ = "autoscaler_outbox"
    __table_args__ = (SQLITE_ARGS,)
