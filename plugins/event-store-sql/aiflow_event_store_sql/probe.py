"""Asks for the head of the log at little cost."""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import PoolProxiedConnection

from aiflow_core.database import unusable
from aiflow_event_store_sql import queries


class HeadProbe:
    """The offset of the newest event, over a connection that is kept.

    It is asked several times a second as long as the deployment lives, mostly to hear that nothing
    happened. SQLAlchemy's own handling of a query would cost ten times as much as the query.
    """

    def __init__(self, engine: Engine, uri: str) -> None:
        self._engine = engine
        self._uri = uri
        self._statement = queries.driver_text(queries.HEAD, engine.dialect)
        self._connection: PoolProxiedConnection | None = None

    def __call__(self) -> int:
        """`UnavailableError` when the database cannot be asked."""
        database_error = self._engine.dialect.loaded_dbapi.Error
        try:
            self._connection = connection = self._connection or self._engine.raw_connection()
            return self._ask(connection)
        except database_error as error:
            self._give_up()
            raise unusable(self._uri, error) from error

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _ask(self, connection: DBAPIConnection) -> int:
        cursor = connection.cursor()
        try:
            cursor.execute(self._statement)
            rows: Any = cursor.fetchall()
        finally:
            cursor.close()
        connection.rollback()  # PostgreSQL and MariaDB have begun a transaction
        return int(rows[0][0])

    def _give_up(self) -> None:
        if self._connection:
            self._connection.invalidate()
            self._connection = None
