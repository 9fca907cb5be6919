"""Runs the batch service's migrations on the connection that the caller opened."""

from __future__ import annotations

from alembic import context

from headgate.batch.rows import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,  # SQLite can change a table only by copying it
)
with context.begin_transaction():
    context.run_migrations()
