"""Alembic scripts of the metadata tables."""
