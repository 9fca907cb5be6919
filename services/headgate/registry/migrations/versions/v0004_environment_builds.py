"""Deployments know which build of their environment a refresh gave them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: what there is so far runs on the build it was created with."""
    op.add_column(
        "registry_deployment",
        sa.Column("environment_build", sa.String(), nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_column("registry_deployment", "environment_build")
