"""When an instance was last heard of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("metering_instance", sa.Column("seen_at", sa.Float()))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("metering_instance") as table:
        table.drop_column("seen_at")
