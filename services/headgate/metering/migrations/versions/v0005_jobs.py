"""Nodes of batch jobs among the instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    job = sa.Column("job", sa.String(), nullable=False, server_default="")
    op.add_column("metering_instance", job)


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("metering_instance") as table:
        table.drop_column("job")
