"""Service levels: objectives, what counts for them, and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "metering_sli",
        sa.Column("begins", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("endpoint", sa.String(), primary_key=True),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.Column("bad", sa.BigInteger(), nullable=False),
        sa.Column("excluded", sa.BigInteger(), nullable=False),
        sa.Column("fast", sa.Float(), nullable=False),
        sa.Column("measured", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "metering_objective",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("endpoint", sa.String(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_table(
        "metering_sla_alert",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("endpoint", sa.String(), primary_key=True),
        sa.Column("indicator", sa.String(), primary_key=True),
        sa.Column("severity", sa.String(), primary_key=True),
        sa.Column("since", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("metering_sli", "metering_objective", "metering_sla_alert"):
        op.drop_table(name)
