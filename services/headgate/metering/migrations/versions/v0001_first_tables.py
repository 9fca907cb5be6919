"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "metering_usage",
        sa.Column("begins", sa.BigInteger(), primary_key=True, autoincrement=False),
        *_keys("workspace", "endpoint", "deployment", "caller", "kind"),
        sa.Column("status", sa.BigInteger(), primary_key=True, autoincrement=False),
        *_counts("requests", "request_bytes", "response_bytes", "compute_us"),
    )
    op.create_index("metering_usage_by_workspace", "metering_usage", ["workspace", "begins"])
    op.create_table(
        "metering_reporter",
        *_keys("reporter"),
        *_counts("epoch", "sequence"),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_metering_reporter_seen_at", "metering_reporter", ["seen_at"])
    op.create_table(
        "metering_instance",
        *_keys("instance"),
        sa.Column("began_at", sa.Float(), primary_key=True),
        sa.Column("ended_at", sa.Float()),
        *_texts("workspace", "endpoint", "deployment", "instance_type", "price_per_hour"),
    )
    op.create_index(
        "metering_instance_by_workspace", "metering_instance", ["workspace", "ended_at"]
    )
    op.create_table(
        "metering_price",
        sa.Column("since", sa.Float(), primary_key=True),
        *_texts("price_per_gb"),
    )
    op.create_table(
        "metering_tag",
        *_keys("workspace", "endpoint", "deployment", "name"),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_table(
        "metering_budget",
        *_keys("workspace", "name"),
        *_texts("generation"),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_table(
        "metering_alert",
        *_keys("workspace", "name", "generation"),
        sa.Column("period_since", sa.Float(), primary_key=True),
        sa.Column("threshold", sa.Float(), primary_key=True),
    )
    op.create_table("metering_position", *_keys("stream"), *_counts("sequence"))
    op.create_table(
        "metering_outbox",
        sa.Column("seq", _serial, primary_key=True, autoincrement=True),
        *_texts("event_id", "subject", "headers", "payload"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in (
        *("outbox", "position", "alert", "budget", "tag", "price", "instance", "reporter", "usage"),
    ):
        op.drop_table(f"metering_{name}")


def _keys(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), primary_key=True) for name in names]


def _texts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]
