"""Runs the scripts on the connection that `aiflow_core.database` hands over."""

from alembic import context

from aiflow_scheduler_event.tables import metadata

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    version_table=attributes["version_table"],
)
context.run_migrations()
