"""The event log in SQLite, PostgreSQL, MySQL or MariaDB."""
