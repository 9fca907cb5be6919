"""Traces are parts of what their callers trace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLE = "logs_trace"
_IDS = ("trace_id", "span_id", "parent_id")


def upgrade() -> None:
    """Add the ids."""
    for name in _IDS:
        op.add_column(_TABLE, sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.create_index(f"{_TABLE}_by_trace_id", _TABLE, ["workspace", "trace_id"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index(f"{_TABLE}_by_trace_id", _TABLE)
    for name in _IDS:
        op.drop_column(_TABLE, name)
