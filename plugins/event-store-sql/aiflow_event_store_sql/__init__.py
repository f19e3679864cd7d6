"""The event log in SQLite, PostgreSQL, MySQL or MariaDB."""

aiflow_api = ">=1,<2"
