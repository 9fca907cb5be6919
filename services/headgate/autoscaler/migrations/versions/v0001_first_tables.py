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
        "autoscaler_setting",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_index(
        "ix_autoscaler_setting_of", "autoscaler_setting", ["endpoint", "deployment"], unique=True
    )
    op.create_table(
        "autoscaler_decision",
        sa.Column("seq", _serial, primary_key=True),
        sa.Column("workspace", sa.String(), nullable=False, index=True),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False, index=True),
        sa.Column("value", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_autoscaler_decision_of", "autoscaler_decision", ["endpoint", "deployment", "seq"]
    )
    op.create_table(
        "autoscaler_cooldown",
        sa.Column("endpoint", sa.String(), primary_key=True),
        sa.Column("deployment", sa.String(), primary_key=True),
        sa.Column("until", sa.Float(), nullable=False),
    )
    op.create_table(
        "autoscaler_counter",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "autoscaler_outbox",
        sa.Column("seq", _serial, primary_key=True),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("headers", sa.String(), nullable=False),
        sa.Column("payload", sa.String(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("outbox", "counter", "cooldown", "decision", "setting"):
        op.drop_table(f"autoscaler_{name}")
