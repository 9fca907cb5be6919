"""Deployments can be stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: what there is so far is not stopped."""
    op.add_column(
        "registry_deployment",
        sa.Column("is_stopped", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_column("registry_deployment", "is_stopped")
