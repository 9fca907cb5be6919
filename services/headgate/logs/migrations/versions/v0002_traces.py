"""Where the time of requests went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLE = "logs_trace"
_TEXTS = ("workspace", "endpoint", "deployment", "instance", "router", "request_id", "reason")
_COUNTS = ("status", "tries", "in_parts", "request_bytes", "response_bytes")
_TIMES = ("total_ms", "edge_ms", "queue_ms")
_TIMES_OF_SOME = ("bus_ms", "worker_ms", "model_ms", "answer_ms")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        _TABLE,
        sa.Column("id", _serial, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.Float(), nullable=False) for name in _TIMES),
        *(sa.Column(name, sa.Float()) for name in _TIMES_OF_SOME),
        sqlite_autoincrement=True,
    )
    op.create_index(f"{_TABLE}_by_time", _TABLE, ["workspace", "at"])
    op.create_index(f"{_TABLE}_by_owner", _TABLE, ["endpoint"])
    op.create_index(f"{_TABLE}_by_request_id", _TABLE, ["workspace", "request_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table(_TABLE)
