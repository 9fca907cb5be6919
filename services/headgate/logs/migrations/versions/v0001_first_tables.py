"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLES = ("logs_traffic", "logs_console", "logs_event")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "logs_traffic",
        *_owned(),
        *_texts("method", "path", "protocol"),
        sa.Column("status", sa.BigInteger(), nullable=False),
        *_texts("reason"),
        sa.Column("model_status", sa.BigInteger()),
        *_texts("model_reason"),
        sa.Column("request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("response_bytes", sa.BigInteger(), nullable=False),
        *_texts("user_agent", "request_id", "client_request_id"),
        sa.Column("total_ms", sa.Float(), nullable=False),
        sa.Column("request_ms", sa.Float(), nullable=False),
        sa.Column("response_ms", sa.Float()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "logs_console",
        *_owned(),
        *_texts("instance", "container", "level", "request_id"),
        sa.Column("message", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "logs_event",
        *_owned(),
        *_texts("instance", "container", "name"),
        sa.Column("message", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    for table in _TABLES:
        op.create_index(f"{table}_by_time", table, ["workspace", "at"])
        op.create_index(f"{table}_by_owner", table, ["endpoint"])
    for table in _TABLES[:2]:
        op.create_index(f"{table}_by_request_id", table, ["workspace", "request_id"])
    op.create_table(
        "logs_loss",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("log", sa.String(), primary_key=True),
        sa.Column("minute", sa.BigInteger(), primary_key=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "logs_position",
        sa.Column("stream", sa.String(), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in (*_TABLES, "logs_loss", "logs_position"):
        op.drop_table(table)


def _owned() -> list[sa.Column[object]]:
    return [
        sa.Column("id", _serial, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        *_texts("workspace", "endpoint", "deployment"),
    ]


def _texts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]
