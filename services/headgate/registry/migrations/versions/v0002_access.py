"""Who made a resource, since when scoring tokens count, archived assets, and simple resources."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STAMPED = ("registry_endpoint", "registry_deployment", "registry_asset")


def upgrade() -> None:
    """Add the columns and the table."""
    for table in _STAMPED:
        for name in ("created_by", "updated_by"):
            op.add_column(table, sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.add_column(
        "registry_endpoint",
        sa.Column("tokens_not_before", sa.Float(), nullable=False, server_default="0"),
    )
    op.add_column(
        "registry_asset",
        sa.Column("is_archived", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "registry_thing",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("registry_thing")
    op.drop_column("registry_asset", "is_archived")
    op.drop_column("registry_endpoint", "tokens_not_before")
    for table in _STAMPED:
        for name in ("created_by", "updated_by"):
            op.drop_column(table, name)
