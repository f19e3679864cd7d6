"""The tables, as Alembic revisions; `aiflow_core.database.migrate` applies them."""
