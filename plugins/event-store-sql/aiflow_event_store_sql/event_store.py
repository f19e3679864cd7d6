"""The log in a SQL database."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError

from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.database import (
    LogTransaction,
    SharesDatabase,
    TableUsage,
    check_current,
    downgrade,
    found_revision,
    migrate,
    migration_sql,
    open_engine,
    reachable,
    table_usage,
)
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter
from aiflow_core.specs.event_store import MAX_EVENT_BYTES, EventStore, KeepsMembers, Member
from aiflow_event_store_sql import queries
from aiflow_event_store_sql.group_commit import GroupCommit
from aiflow_event_store_sql.probe import HeadProbe
from aiflow_event_store_sql.subscription import SqlSubscription, Tail, Watcher
from aiflow_event_store_sql.tables import TABLES, from_row
from aiflow_event_store_sql.writer import CLOSED, Writer

PACKAGE = "aiflow_event_store_sql"

# Rows in one deletion: short enough a lock for those who append meanwhile.
ROWS_AT_ONCE = 10_000


class SqlEventStore(EventStore, SharesDatabase, KeepsMembers):
    """The log in a SQL database that several processes may share.

    Offsets are given under a lock on the head row, inside the transaction that inserts the events:
    so they have no gaps and stand in commit order, whichever process gives them. Nothing else is
    needed for several servers on one database: no leader among them, and no word between them.
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
        self.uri = uri
        self._engine = open_engine(uri, pool_size=pool_size, max_overflow=max_overflow)
        self._reader = self._engine.execution_options(read_only=True)
        self._dialect = self._engine.dialect.name
        self._clock = clock or Clock()
        self._poll_interval = poll_interval
        self._tail = Tail()
        self._writer = Writer(
            self._engine, self._clock, max_event_bytes, on_commit=self._tail.publish
        )
        self._appender = GroupCommit(self._commit)
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._subscriptions: set[SqlSubscription] = set()
        self._closed = False
        self._unused = threading.Condition()
        self._uses: int | None = 0  # of the database just now; None when there may be no more

    # --- tables ---

    def initialize(self, revision: str = "head") -> None:
        """Make the tables, or bring them up to date."""
        with reachable(self.uri):
            migrate(self._engine, PACKAGE, revision)

    def downgrade(self, revision: str) -> None:
        """Take the tables back to an earlier revision; `base` removes them with all events."""
        with reachable(self.uri):
            downgrade(self._engine, PACKAGE, revision)

    def revision(self) -> str | None:
        """The revision of the tables; None when there are none."""
        with reachable(self.uri):
            return found_revision(self._engine, PACKAGE)

    def sql(self, *revisions: str) -> str:
        """The SQL that would take the tables to each of the revisions, one after the other."""
        with reachable(self.uri):
            return migration_sql(self._engine, PACKAGE, *revisions)

    def check(self, init_command: str = "aiflow db init") -> None:
        """Raise `ConfigError`, naming `init_command`, unless the tables are up to date."""
        check_current(self._engine, PACKAGE, uri=self.uri, init_command=init_command)

    def usage(self) -> list[TableUsage]:
        """How much the tables take."""
        return table_usage(self._engine, self.uri, TABLES)

    # --- the log ---

    def append(self, events: Sequence[Event]) -> list[Event]:
        accepted = self._writer.accept(events)
        return self._appender.append(accepted) if accepted else []

    @contextmanager
    def transaction(self) -> Iterator[LogTransaction]:
        with reachable(self.uri), self._writer.transaction() as transaction:
            yield transaction

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
                probe = HeadProbe(self._engine, self.uri)
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
        with self._use():
            while True:
                with self._engine.begin() as connection:
                    first = connection.execute(queries.FIRST).scalar()
                    if first is None or first >= before:
                        return deleted
                    until = min(before, first + ROWS_AT_ONCE)
                    deleted += connection.execute(queries.DELETE_BEFORE, {"before": until}).rowcount
                    crash_point("log.truncate.before")
                crash_point("log.truncate.after")

    # --- its servers ---

    def join(self, uri: str, ttl_ms: int) -> None:
        with self._use():
            with self._engine.begin() as connection:
                connection.execute(queries.FORGET_MEMBER, {"uri": uri})
                connection.execute(queries.ADD_MEMBER, {"uri": uri, "ttl_ms": ttl_ms})
                crash_point("log.join.before")
            crash_point("log.join.after")

    def leave(self, uri: str) -> None:
        with self._use():
            with self._engine.begin() as connection:
                connection.execute(queries.FORGET_MEMBER, {"uri": uri})
                crash_point("log.leave.before")
            crash_point("log.leave.after")

    def members(self) -> list[Member]:
        return [Member(uri, seen_ms) for uri, seen_ms in self._query(queries.MEMBERS)]

    # --- the end ---

    def close(self) -> None:
        with self._lock:
            self._closed = True
            watcher, self._watcher = self._watcher, None
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        if watcher:
            watcher.stop()
        self._writer.close()
        with self._unused:
            # A connection that comes back to a pool after its end would stay open.
            self._unused.wait_for(lambda: not self._uses)
            self._uses = None
        self._engine.dispose()

    # --- inside ---

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Around what takes a connection from the pool."""
        with self._unused:
            if self._uses is None:
                raise UnavailableError(CLOSED)
            self._uses += 1
        try:
            with reachable(self.uri):
                yield
        finally:
            with self._unused:
                self._uses -= 1
                self._unused.notify_all()

    def _query(self, statement: Any, parameters: dict[str, Any] | None = None) -> Sequence[Any]:
        with self._use(), self._reader.connect() as connection:
            return connection.execute(statement, parameters or {}).all()

    def _commit(self, lists: Sequence[Sequence[Event]]) -> list[list[Event]]:
        with reachable(self.uri):
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
        with self._writer.transaction() as transaction:
            return transaction.insert(lists, look_up=look_up)
