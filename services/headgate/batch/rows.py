"""The batch service's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from headgate.runtime.outbox import SQLITE_ARGS, OutboxRow

VERSION_TABLE = "batch_version"
_tables = registry()
metadata = _tables.metadata


class Row(SQLModel, registry=_tables):
    """Base of the tables, with metadata apart from that of other services."""

    metadata = metadata


class JobRow(Row, table=True):
    """``document`` is what never changes, ``counts`` how far the job is, both as JSON.

    ``listed_key`` is the last file that is in a mini-batch, ``next_number`` that of the next one.
    ``epoch`` tells messages in the queue of before a pause from those after.
    """

    __tablename__ = "batch_job"
    __table_args__ = (
        UniqueConstraint("workspace", "name", name="batch_job_by_name"),
        Index("batch_job_by_repeat", "workspace", "endpoint", "repeat_id"),
        Index("batch_job_by_age", "workspace", "created_at"),
    )

    id: str = Field(primary_key=True)
    workspace: str
    name: str
    endpoint: str
    deployment: str
    status: str = Field(index=True)
    repeat_id: str
    document: str = Field(sa_type=Text)
    counts: str = Field(sa_type=Text)
    error: str = Field(sa_type=Text)
    listed_key: str = Field(sa_type=Text)
    next_number: int = Field(sa_type=BigInteger)
    epoch: int = Field(sa_type=BigInteger)
    has_parts: bool
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    revision: int = Field(sa_type=BigInteger)


class MiniBatchRow(Row, table=True):
    """``state``: pending, queued, done or failed. ``due``: when it may be published.

    ``files`` and ``outputs`` are JSON; the result is ``text`` or, when it is long, the object
    ``part``.
    """

    __tablename__ = "batch_mini_batch"
    __table_args__ = (Index("batch_mini_batch_by_state", "job", "state", "number"),)

    job: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    state: str
    attempt: int
    losses: int
    due: float
    items: int = Field(sa_type=BigInteger)
    files: str = Field(sa_type=Text)
    succeeded: int = Field(sa_type=BigInteger)
    text: str = Field(sa_type=Text)
    part: str = Field(sa_type=Text)
    outputs: str = Field(sa_type=Text)
    error: str = Field(sa_type=Text)
    node: str


class BatchOutboxRow(Row, OutboxRow, table=True):
    __tablename__ = "batch_outbox"
    __table_args__ = (SQLITE_ARGS,)
