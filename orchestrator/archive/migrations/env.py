"""Alembic's way to the database: over the connection that it is given, which has begun a transaction."""

from __future__ import annotations

from alembic import context

from orchestrator.archive.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
