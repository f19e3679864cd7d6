"""The one connection on which this process writes to the log, and the transactions on it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace
from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import DBAPIError

from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.database import LogTransaction
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event, new_event_id
from aiflow_core.specs.event_store import check_event
from aiflow_event_store_sql import queries
from aiflow_event_store_sql.tables import from_row, to_row

# Ids in one look-up; small enough for every database.
IDS_AT_ONCE = 500

CLOSED = "The event log is closed."


class Writer:
    """Writes one transaction after the other.

    Always on the same connection, because taking one from the pool costs as much as the insert; on
    a new one after the database broke it off.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        max_event_bytes: int,
        on_commit: Callable[[Sequence[Event]], None],
    ) -> None:
        """`on_commit` is called with the events that have become durable, in the order of the
        log."""
        self._engine = engine
        self._clock = clock
        self._max_event_bytes = max_event_bytes
        self._on_commit = on_commit
        self._statements = _Statements(engine.dialect)
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    @contextmanager
    def transaction(self) -> "Iterator[SqlLogTransaction]":
        """As `SharesDatabase.transaction`, but with the errors of SQLAlchemy."""
        with self._turn:
            if self._closed:
                raise UnavailableError(CLOSED)
            begun, transaction = self._begin()
            with begun:
                yield transaction
                crash_point("log.commit.before")
            crash_point("log.commit.after")
            if transaction.fresh:
                self._on_commit(transaction.fresh)

    def accept(self, events: Sequence[Event]) -> list[Event]:
        """The events, each with an id; `UsageError` when one cannot be kept."""
        for event in events:
            check_event(event, self._max_event_bytes)
        return [event if event.id else replace(event, id=new_event_id()) for event in events]

    def close(self) -> None:
        """Write no more; waits for the transaction that runs."""
        with self._turn:
            self._closed = True
            self._let_go()

    def _begin(self) -> "tuple[RootTransaction, SqlLogTransaction]":
        if self._connection and self._connection.invalidated:
            self._let_go()
        is_kept = self._connection is not None
        try:
            return self._begin_once()
        except DBAPIError as error:
            if not (is_kept and error.connection_invalidated):
                raise
        # It broke while nobody wrote, so there is nothing to be undone or to be known.
        self._let_go()
        return self._begin_once()

    def _begin_once(self) -> "tuple[RootTransaction, SqlLogTransaction]":
        connection = self._connection = self._connection or self._engine.connect()
        begun = connection.begin()
        try:
            offset, last_ms = connection.exec_driver_sql(self._statements.lock_head).one()
        except BaseException:
            begun.rollback()
            raise
        now = max(last_ms, self._clock.now_ms())
        return begun, SqlLogTransaction(connection, self._statements, self.accept, offset, now)

    def _let_go(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


class SqlLogTransaction(LogTransaction):
    """Has locked the head row, so that the next offsets are its own until it ends.

    Attributes:
        fresh: the events that it added to the log.
    """

    def __init__(
        self,
        connection: Connection,
        statements: "_Statements",
        accept: Callable[[Sequence[Event]], list[Event]],
        offset: int,
        now_ms: int,
    ) -> None:
        self.connection = connection
        self.fresh: list[Event] = []
        self._statements = statements
        self._accept = accept
        self._offset = offset
        self._now = now_ms

    def append(self, events: Sequence[Event]) -> list[Event]:
        # Looked up before: a refused insert would take all else in the transaction with it.
        (stored,) = self.insert([self._accept(events)], look_up=True)
        return stored

    def insert(self, lists: Sequence[Sequence[Event]], *, look_up: bool) -> list[list[Event]]:
        """Accepted events, as they now stand. `IntegrityError` when one was in the log before and
        `look_up` does not ask for it."""
        stored: dict[str, Event] = {}
        if look_up:
            stored = self._stored([event.id for events in lists for event in events])
        fresh: list[Event] = []
        for events in lists:
            for event in events:
                if event.id not in stored:
                    self._offset += 1
                    entry = replace(event, offset=self._offset, create_time=self._now)
                    stored[event.id] = entry
                    fresh.append(entry)
        if fresh:
            head = {"seq": self._offset, "last_ms": self._now}
            self._statements.insert_events(self.connection, fresh)
            self.connection.exec_driver_sql(self._statements.move_head, head)
            self.fresh += fresh
        return [[stored[event.id] for event in events] for events in lists]

    def _stored(self, ids: list[str]) -> dict[str, Event]:
        """Those of the events that are in the log already, by id."""
        found: dict[str, Event] = {}
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = {"ids": ids[start : start + IDS_AT_ONCE]}
            rows = self.connection.execute(queries.BY_IDS, some)
            found.update((event.id, event) for event in map(from_row, rows))
        return found


class _Statements:
    """What every commit executes, as the driver takes it."""

    def __init__(self, dialect: Dialect) -> None:
        self.lock_head = queries.driver_text(queries.LOCK_HEAD, dialect)
        self.move_head = queries.driver_text(queries.MOVE_HEAD, dialect)
        self._insert = queries.driver_text(queries.INSERT, dialect)
        # What a driver does for many rows is slow with PostgreSQL.
        self._insert_columns: str | None = None
        if dialect.name == "postgresql":
            self._insert_columns = queries.driver_text(queries.INSERT_COLUMNS, dialect)

    def insert_events(self, connection: Connection, events: Sequence[Event]) -> None:
        rows = [to_row(event) for event in events]
        if self._insert_columns and len(rows) > 1:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            connection.exec_driver_sql(self._insert_columns, columns)
        else:
            connection.exec_driver_sql(self._insert, rows)
