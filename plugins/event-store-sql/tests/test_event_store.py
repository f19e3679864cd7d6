"""The log in SQLite, PostgreSQL and MariaDB."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from aiflow_core.clock import Clock
from aiflow_core.database import open_engine
from aiflow_core.errors import ConfigError, NoRoomError, UnavailableError, UsageError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import DurableEventStoreContract, Follower
from aiflow_event_store_sql.event_store import SqlEventStore

OpenStore = Callable[..., SqlEventStore]

# Appends lists of two, and says each time which offset the first of them got.
PRODUCER = """
import sys
from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore

uri, sender, lists = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = SqlEventStore(uri)
for n in range(lists):
    pair = [Event(f"{n}.{half}", sender=sender) for half in "ab"]
    print(store.append(pair)[0].offset, flush=True)
"""


def start_producer(uri: str, sender: str, lists: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PRODUCER, uri, sender, str(lists)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_store(database_url: str, clock: ManualClock) -> Iterator[OpenStore]:
    """Opens the database, as often as one likes; its tables are there."""

    def open_one(clock: Clock = clock, poll_interval: float = 0.2) -> SqlEventStore:
        store = SqlEventStore(database_url, clock=clock, poll_interval=poll_interval)
        return stack.enter_context(closing(store))

    with ExitStack() as stack:
        open_one().initialize()
        yield open_one


class TestSqlEventStore(DurableEventStoreContract):
    @pytest.fixture
    def store(self, open_store: OpenStore) -> SqlEventStore:
        return open_store()

    @pytest.fixture
    def reopen(self, open_store: OpenStore) -> OpenStore:
        return open_store

    @pytest.fixture
    def unreachable(self) -> Iterator[SqlEventStore]:
        with closing(SqlEventStore("postgresql+psycopg://127.0.0.1:1/none")) as store:
            yield store


class TestReopened:
    def test_the_log_is_as_it_was(self, open_store: OpenStore, clock: ManualClock) -> None:
        store = open_store()
        stored = store.append([Event("a", "1", id="once"), Event("b", None, "ns", "me", "{}")])
        store.close()
        clock.jump(-3600)

        store = open_store()

        assert store.read() == stored
        assert store.append([Event("a", "1", id="once")]) == stored[:1]
        (new,) = store.append([Event("c")])
        assert (new.offset, new.create_time) == (3, stored[1].create_time)

    def test_offsets_of_deleted_events_stay_used(self, open_store: OpenStore) -> None:
        store = open_store()
        store.append([Event("a"), Event("b")])
        store.truncate(3)
        store.close()

        store = open_store()

        assert store.head() == 2
        assert store.append([Event("c")])[0].offset == 3

    def test_a_closed_store_appends_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        store.append([Event("a")])
        store.close()

        with pytest.raises(UnavailableError, match="closed"):
            store.append([Event("b")])
        assert list(store.subscribe(0)) == []


class TestShared:
    """Several stores over one database: one log."""

    def test_two_stores_give_offsets_in_turn(self, open_store: OpenStore) -> None:
        one, other = open_store(), open_store()

        stored = [store.append([Event("k")])[0] for _ in range(3) for store in (one, other)]

        assert [event.offset for event in stored] == [1, 2, 3, 4, 5, 6]

    def test_an_event_that_was_appended_through_one_store_is_known_to_the_other(
        self, open_store: OpenStore
    ) -> None:
        one, other = open_store(), open_store()

        first = one.append([Event("k", "v", id="once")])

        assert other.append([Event("k", "v", id="once"), Event("new")])[:1] == first
        assert other.head() == 2

    def test_a_subscription_finds_what_another_store_appended(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        one, other = open_store(), open_store()
        with Follower(one.subscribe(0)) as follower:
            one.append([Event("a")])
            other.append([Event("b")])
            other.append([Event("c")])
            one.append([Event("d")])
            assert [event.key for event in follower.take(4)] == ["a", "b", "c", "d"]

            other.append([Event("e")])
            clock.await_waiters()
            clock.advance(0.2)
            assert [event.key for event in follower.take(1)] == ["e"]

    def test_processes_that_append_at_the_same_time_leave_no_gap(
        self, open_store: OpenStore, database_url: str
    ) -> None:
        store = open_store(clock=Clock(), poll_interval=0.01)
        with Follower(store.subscribe(0)) as follower:
            producers = [start_producer(database_url, sender, 25) for sender in "xyz"]
            for n in range(25):
                store.append([Event(f"{n}.a", sender="me"), Event(f"{n}.b", sender="me")])
            taken = follower.take(200, timeout=60)
        for producer in producers:
            producer.communicate()
            assert producer.returncode == 0

        assert [event.offset for event in taken] == list(range(1, 201))
        assert taken == store.read()
        for first, second in zip(taken[::2], taken[1::2], strict=True):
            assert first.sender == second.sender, "a list was torn apart"
        for sender in ("me", *"xyz"):
            keys = [event.key for event in store.read(filter=EventFilter(sender=sender))]
            assert keys == [f"{n}.{half}" for n in range(25) for half in "ab"]

    def test_what_a_killed_process_was_told_is_stored_stays_stored(
        self, open_store: OpenStore, database_url: str
    ) -> None:
        producer = start_producer(database_url, "x", 1_000_000)
        assert producer.stdout is not None
        told = [int(producer.stdout.readline()) for _ in range(30)]
        producer.kill()
        told += [int(line) for line in producer.communicate()[0].split()]

        store = open_store()
        stored = store.read(limit=1_000_000)

        assert told == list(range(1, 2 * len(told), 2))
        assert len(stored) in (2 * len(told), 2 * len(told) + 2)
        assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
        assert store.append([Event("k")])[0].offset == len(stored) + 1


class TestMembers:
    """Servers that find each other in the database, by its own time."""

    def test_a_server_is_known_until_it_leaves(self, open_store: OpenStore) -> None:
        one, other = open_store(), open_store()
        one.join("b:1", 60_000)
        other.join("a:1", 60_000)

        assert [member.uri for member in one.members()] == ["a:1", "b:1"]
        assert other.members() == one.members()

        one.leave("b:1")

        assert [member.uri for member in other.members()] == ["a:1"]

    def test_a_server_that_says_no_more_that_it_lives_is_forgotten(
        self, open_store: OpenStore
    ) -> None:
        store = open_store()
        store.join("dead:1", -1)
        assert store.members() == []

        store.join("dead:1", 60_000)
        assert [member.uri for member in store.members()] == ["dead:1"]

    def test_what_it_says_again_counts(self, open_store: OpenStore) -> None:
        store = open_store()
        store.join("a:1", 60_000)
        (before,) = store.members()

        store.join("a:1", 60_000)

        (after,) = store.members()
        assert after.seen_ms >= before.seen_ms > 1_600_000_000_000

    def test_the_dead_take_no_room(self, open_store: OpenStore, database_url: str) -> None:
        store = open_store()
        for n in range(3):
            store.join(f"dead:{n}", -1)

        engine = open_engine(database_url)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT COUNT(*) FROM member")) == 1
        engine.dispose()


class TestTables:
    def test_a_database_without_tables_is_refused_with_the_command_that_makes_them(
        self, database_url: str
    ) -> None:
        with closing(SqlEventStore(database_url)) as store:
            with pytest.raises(ConfigError, match=r"has no tables yet.*`notification db init`"):
                store.check("notification db init")

            store.initialize()

            store.check("notification db init")

    def test_making_the_tables_again_keeps_the_events(self, open_store: OpenStore) -> None:
        store = open_store()
        stored = store.append([Event("k")])

        store.initialize()

        assert store.read() == stored

    def test_tables_of_the_version_before_are_brought_up_to_date_and_back(
        self, database_url: str
    ) -> None:
        with closing(SqlEventStore(database_url)) as store:
            store.initialize("0001")
            stored = store.append([Event("k")])
            with pytest.raises(ConfigError, match="is at revision 0001, not 0002"):
                store.check()

            store.initialize()
            store.join("a:1", 60_000)
            store.downgrade("0001")
            store.initialize()

            assert store.read() == stored
            assert store.members() == []

    def test_tables_are_removed_and_made_anew(self, open_store: OpenStore) -> None:
        store = open_store()
        store.append([Event("k")])

        store.downgrade("base")

        with pytest.raises(ConfigError):
            store.check()
        store.initialize()
        assert store.head() == 0


class TestRefusal:
    def test_the_limit_for_the_size_of_an_event_is_a_setting(self, tmp_path: Path) -> None:
        with closing(
            SqlEventStore(f"sqlite:///{tmp_path}/events.db", max_event_bytes=100)
        ) as store:
            store.initialize()
            store.append([Event("k", "v" * 50)])
            with pytest.raises(UsageError, match="at most 100"):
                store.append([Event("k", "ü" * 50)])

    def test_a_full_disk_is_named_and_loses_nothing(self, tmp_path: Path) -> None:
        def make_small(connection: object, record: object) -> None:
            connection.execute("PRAGMA max_page_count = 60").close()  # type: ignore[attr-defined]

        event.listen(Engine, "connect", make_small)
        try:
            with closing(SqlEventStore(f"sqlite:///{tmp_path}/events.db")) as store:
                store.initialize()
                stored: list[Event] = []

                def fill() -> None:
                    while True:
                        stored.extend(store.append([Event("k", "v" * 10_000)]))

                with pytest.raises(NoRoomError, match="disk is full"):
                    fill()
                assert store.read() == stored

                store.truncate(stored[-1].offset)

                assert store.append([Event("k")])[0].offset == len(stored) + 1
        finally:
            event.remove(Engine, "connect", make_small)

    def test_a_server_that_does_not_answer_is_named_without_its_password(self) -> None:
        # Port 9 is the discard service; nothing listens there.
        uri = "postgresql://someone:secret@127.0.0.1:9/events"
        with closing(SqlEventStore(uri)) as store, pytest.raises(UnavailableError) as caught:
            store.append([Event("k")])

        assert "someone:***@127.0.0.1:9/events" in str(caught.value)
        assert "refused" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_the_tables_say_how_much_they_take(database_url: str) -> None:
    with closing(SqlEventStore(database_url)) as store:
        store.initialize()
        store.append([Event("a"), Event("b")])

        usage = {table.table: table for table in store.usage()}

    assert usage["event"].rows == 2
    assert usage["log_head"].rows == 1
    assert all(table.bytes > 0 for table in usage.values() if table.rows)
