"""The log in a SQL database."""

import threading
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from aiflow_core.clock import Clock
from aiflow_core.database import check_current, downgrade, migrate, open_engine, reachable
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, new_event_id
from aiflow_core.specs.event_store import MAX_EVENT_BYTES, EventStore, check_event
from aiflow_event_store_sql import queries
from aiflow_event_store_sql.group_commit import GroupCommit
from aiflow_event_store_sql.probe import HeadProbe
from aiflow_event_store_sql.subscription import SqlSubscription, Tail, Watcher
from aiflow_event_store_sql.tables import from_row, to_row

PACKAGE = "aiflow_event_store_sql"

# Ids in one look-up, rows in one deletion: small enough for every database, and short enough a
# lock for those who append meanwhile.
IDS_AT_ONCE = 500
ROWS_AT_ONCE = 10_000


class SqlEventStore(EventStore):
    """The log in a SQL database that several processes may share.

    Offsets are given under a lock on the head row, inside the transaction that inserts the events:
    so they have no gaps and stand in commit order.
    """

    def __init__(
        self,
        uri: str,
        *,
        pool_size: int = 5,
        max_overflow: int = 10,
        poll_interval: float = 0.2,
        max_event_bytes: int = MAX_EVENT_BYTES,
        clock: Clock | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            uri: SQLAlchemy URL, for example `sqlite:////path/to/file.db`.
            pool_size: connections that are kept open; of no effect on SQLite.
            max_overflow: connections that are opened beyond these under load, likewise.
            poll_interval: seconds between two looks for events that other processes appended;
                what this process appends reaches its subscriptions at once.
            max_event_bytes: limit for the texts of one event together, in UTF-8.
            clock: the time.
        """
        self._uri = uri
        self._engine = open_engine(uri, pool_size=pool_size, max_overflow=max_overflow)
        self._reader = self._engine.execution_options(read_only=True)
        self._dialect = self._engine.dialect.name
        self._lock_head, self._insert_events, self._move_head = (
            queries.driver_text(statement, self._engine.dialect)
            for statement in (queries.LOCK_HEAD, queries.INSERT, queries.MOVE_HEAD)
        )
        self._clock = clock or Clock()
        self._poll_interval = poll_interval
        self._max_event_bytes = max_event_bytes
        self._appender = GroupCommit(self._commit)
        self._writing = threading.Lock()
        self._writer: Connection | None = None
        self._tail = Tail()
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._subscriptions: set[SqlSubscription] = set()
        self._closed = False

    # --- tables ---

    def initialize(self, revision: str = "head") -> None:
        """Make the tables, or bring them up to date."""
        with reachable(self._uri):
            migrate(self._engine, PACKAGE, revision)

    def downgrade(self, revision: str) -> None:
        """Take the tables back to an earlier revision; `base` removes them with all events."""
        with reachable(self._uri):
            downgrade(self._engine, PACKAGE, revision)

    def check(self, init_command: str = "aiflow db init") -> None:
        """Raise `ConfigError`, naming `init_command`, unless the tables are up to date."""
        check_current(self._engine, PACKAGE, uri=self._uri, init_command=init_command)

    # --- the log ---

    def append(self, events: Sequence[Event]) -> list[Event]:
        for event in events:
            check_event(event, self._max_event_bytes)
        if not events:
            return []
        return self._appender.append(
            [event if event.id else replace(event, id=new_event_id()) for event in events]
        )

    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        rows = self._query(
            queries.read(filter, self._dialect),
            {"after": after, "until": queries.NO_END if until is None else until, "limit": limit},
        )
        return [from_row(row) for row in rows]

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> SqlSubscription:
        subscription = SqlSubscription(
            *(self, self._tail, self._clock, self._poll_interval, after, filter),
            on_close=self._subscriptions.discard,
        )
        with self._lock:
            self._subscriptions.add(subscription)
            if self._closed:
                subscription.close()
            elif self._watcher is None:
                probe = HeadProbe(self._engine, self._uri)
                self._watcher = Watcher(probe, self._tail, self._clock, self._poll_interval)
                self._watcher.start()
        return subscription

    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        rows = self._query(
            queries.count(filter, self._dialect),
            {"after": after, "until": queries.NO_END if until is None else until},
        )
        return {sender: number for sender, number in rows}

    def head(self) -> int:
        return int(self._query(queries.HEAD)[0][0])

    def offset_at(self, time_ms: int) -> int:
        # The head first: what is appended in between must come after the answer.
        head = self.head()
        found = self._query(queries.FIRST_SINCE, {"time_ms": time_ms})
        return found[0][0] - 1 if found else head

    def truncate(self, before: int) -> int:
        deleted = 0
        self._tail.forget()
        with reachable(self._uri):
            while True:
                with self._engine.begin() as connection:
                    first = connection.execute(queries.FIRST).scalar()
                    if first is None or first >= before:
                        return deleted
                    until = min(before, first + ROWS_AT_ONCE)
                    deleted += connection.execute(queries.DELETE_BEFORE, {"before": until}).rowcount

    def close(self) -> None:
        with self._lock:
            self._closed = True
            watcher, self._watcher = self._watcher, None
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        if watcher:
            watcher.stop()
        with self._writing:
            if self._writer:
                self._writer.close()
                self._writer = None
        self._engine.dispose()

    # --- inside ---

    def _query(self, statement: Any, parameters: dict[str, Any] | None = None) -> Sequence[Any]:
        with reachable(self._uri), self._reader.connect() as connection:
            return connection.execute(statement, parameters or {}).all()

    def _commit(self, lists: Sequence[Sequence[Event]]) -> list[list[Event]]:
        with self._writing, reachable(self._uri):
            if self._closed:
                raise UnavailableError("The event log is closed.")
            try:
                return self._commit_once(lists)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            # Lost on the way, perhaps after the commit. The ids tell, so the repeat is safe; should
            # the server still be busy with the first attempt, the head row makes us wait for it.
            return self._commit_once(lists)

    def _commit_once(self, lists: Sequence[Sequence[Event]]) -> list[list[Event]]:
        try:
            return self._insert(lists, look_up=False)
        except IntegrityError:
            # Repeats are rare: only now is it worth asking which of the events are there already.
            return self._insert(lists, look_up=True)

    def _insert(self, lists: Sequence[Sequence[Event]], *, look_up: bool) -> list[list[Event]]:
        fresh: list[Event] = []
        # Always the same connection: taking one from the pool costs as much as the insert.
        connection = self._writer = self._writer or self._engine.connect()
        with connection.begin():
            offset, last_ms = connection.exec_driver_sql(self._lock_head).one()
            now = max(last_ms, self._clock.now_ms())
            stored: dict[str, Event] = {}
            if look_up:
                stored = self._stored(connection, [event.id for list in lists for event in list])
            for events in lists:
                for event in events:
                    if event.id not in stored:
                        offset += 1
                        entry = replace(event, offset=offset, create_time=now)
                        stored[event.id] = entry
                        fresh.append(entry)
            if fresh:
                connection.exec_driver_sql(self._insert_events, [to_row(event) for event in fresh])
                connection.exec_driver_sql(self._move_head, {"seq": offset, "last_ms": now})
        if fresh:
            self._tail.publish(fresh)
        return [[stored[event.id] for event in events] for events in lists]

    def _stored(self, connection: Connection, ids: list[str]) -> dict[str, Event]:
        """Those of the events that are in the log already, by id."""
        found: dict[str, Event] = {}
        for start in range(0, len(ids), IDS_AT_ONCE):
            rows = connection.execute(queries.BY_IDS, {"ids": ids[start : start + IDS_AT_ONCE]})
            found.update((event.id, event) for event in map(from_row, rows))
        return found
