"""Desires, recipes, instances and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "provisioner_desires",
        sa.Column("endpoint", sa.String, primary_key=True),
        sa.Column("deployment", sa.String, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("serving", sa.String, nullable=False),
        sa.Column("settled", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "provisioner_recipes",
        sa.Column("endpoint", sa.String, primary_key=True),
        sa.Column("deployment", sa.String, primary_key=True),
        sa.Column("spec", sa.String, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "provisioner_instances",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("endpoint", sa.String, nullable=False, index=True),
        sa.Column("deployment", sa.String, nullable=False),
        sa.Column("spec", sa.String, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("lanes", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("ending_kind", sa.String, nullable=False),
        sa.Column("ending_code", sa.String, nullable=False),
        sa.Column("ending_message", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("started_wall", sa.Float, nullable=False),
        sa.Column("ready_wall", sa.Float),
        sa.Column("ended_wall", sa.Float),
    )
    op.create_table(
        "provisioner_outbox",
        sa.Column("seq", _SERIAL, primary_key=True),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
