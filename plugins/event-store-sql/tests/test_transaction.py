"""Others change their tables and append, in one transaction of the log's database."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError

from aiflow_core import database
from aiflow_core.database import SharesDatabase, open_engine
from aiflow_core.errors import UnavailableError, UsageError
from aiflow_core.model.event import Event
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.databases import on_servers
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore

# What somebody else keeps in the same database.
notes = Table("note", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False))


@dataclass(frozen=True)
class Shared:
    """A database with the tables of the log and of somebody else."""

    open: Callable[[], SqlEventStore]
    noted: Callable[[], list[int]]


@pytest.fixture
def shared(database_url: str) -> Iterator[Shared]:
    def noted() -> list[int]:
        with engine.execution_options(read_only=True).connect() as connection:
            return list(connection.scalars(select(notes.c.id).order_by(notes.c.id)))

    def open_one() -> SqlEventStore:
        store = SqlEventStore(database_url, clock=ManualClock())
        return stack.enter_context(closing(store))

    engine = open_engine(database_url)
    notes.metadata.create_all(engine)
    with ExitStack() as stack:
        open_one().initialize()
        yield Shared(open_one, noted)
    engine.dispose()


def test_it_is_offered_under_the_uri_of_the_database(shared: Shared, database_url: str) -> None:
    store = shared.open()

    assert isinstance(store, SharesDatabase)
    assert store.uri == database_url


def test_both_are_durable_at_the_end_of_the_block_and_not_before(shared: Shared) -> None:
    store, elsewhere = shared.open(), shared.open()

    with store.transaction() as transaction:
        transaction.connection.execute(insert(notes).values(id=1))
        first = transaction.append([Event("a"), Event("b")])
        second = transaction.append([Event("c")])
        assert elsewhere.head() == 0
        assert shared.noted() == []

    assert [event.offset for event in first + second] == [1, 2, 3]
    assert elsewhere.read() == first + second
    assert shared.noted() == [1]


def test_a_block_that_raises_leaves_nothing_of_either(shared: Shared) -> None:
    store = shared.open()
    store.append([Event("before")])

    def fail() -> None:
        with store.transaction() as transaction:
            transaction.connection.execute(insert(notes).values(id=1))
            transaction.append([Event("lost")])
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert shared.noted() == []
    assert [event.key for event in store.read()] == ["before"]
    assert store.append([Event("after")])[0].offset == 2


def test_a_statement_that_is_refused_takes_the_events_with_it(shared: Shared) -> None:
    store = shared.open()

    def note_twice() -> None:
        with store.transaction() as transaction:
            transaction.append([Event("lost")])
            for _ in range(2):
                transaction.connection.execute(insert(notes).values(id=1))

    with pytest.raises(IntegrityError):
        note_twice()

    assert shared.noted() == []
    assert store.head() == 0
    assert store.append([Event("a")])[0].offset == 1


def test_an_event_that_is_there_already_is_returned_as_it_is_stored(shared: Shared) -> None:
    store, elsewhere = shared.open(), shared.open()
    (known,) = elsewhere.append([Event("k", "first", id="known")])

    with store.transaction() as transaction:
        again, new = transaction.append([Event("k", "again", id="known"), Event("n", id="new")])
        (twice,) = transaction.append([Event("n", "twice", id="new")])

    assert again == known
    assert twice == new
    assert store.read() == [known, new]


def test_an_event_that_is_not_acceptable_is_refused_and_the_rest_may_go_on(shared: Shared) -> None:
    store = shared.open()

    with store.transaction() as transaction:
        with pytest.raises(UsageError, match="NUL"):
            transaction.append([Event("a\0b")])
        transaction.connection.execute(insert(notes).values(id=1))

    assert shared.noted() == [1]
    assert store.head() == 0


def test_subscriptions_hear_of_the_events_after_the_commit_and_in_order(shared: Shared) -> None:
    store = shared.open()
    with Follower(store.subscribe(0)) as follower:
        with store.transaction() as transaction:
            appended = transaction.append([Event("a"), Event("b")])
        appended += store.append([Event("c")])

        assert follower.take(3) == appended


def test_whoever_else_appends_meanwhile_waits_and_leaves_no_gap(shared: Shared) -> None:
    """Other threads of this store, another store, and blocks of which every third fails."""
    store, elsewhere = shared.open(), shared.open()
    start = threading.Barrier(4)

    def append(to: SqlEventStore) -> None:
        start.wait(20)
        for _ in range(30):
            to.append([Event("x"), Event("y")])

    def transact() -> None:
        start.wait(20)
        for n in range(30):
            try:
                with store.transaction() as transaction:
                    transaction.append([Event("x")])
                    transaction.connection.execute(insert(notes).values(id=n))
                    transaction.append([Event("y")])
                    if n % 3 == 0:
                        raise LookupError
            except LookupError:
                pass

    with Follower(store.subscribe(0)) as follower, ThreadPoolExecutor() as pool:
        running = [pool.submit(append, to) for to in (store, store, elsewhere)]
        running.append(pool.submit(transact))
        for each in running:
            each.result()
        store.append([Event("x"), Event("y")])  # tells of those before it as well
        taken = follower.take(222)

    assert [event.offset for event in taken] == list(range(1, 223))
    assert [event.key for event in taken] == ["x", "y"] * 111, "two were mixed"
    assert shared.noted() == [n for n in range(30) if n % 3]


@on_servers
def test_a_process_that_stands_still_inside_one_keeps_the_others_waiting_for_seconds_only(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    paused, other = shared.open(), shared.open()
    stored: list[Event] = []

    def stand_still() -> None:
        with paused.transaction() as transaction:
            transaction.append([Event("lost")])
            stored.extend(other.append([Event("a")]))
            transaction.append([Event("lost")])

    with pytest.raises(UnavailableError):
        stand_still()

    stored += paused.append([Event("b")])
    assert other.read() == stored
    assert [event.offset for event in stored] == [1, 2]


def test_a_closed_log_begins_none(shared: Shared) -> None:
    store = shared.open()
    store.close()

    with pytest.raises(UnavailableError, match="closed"), store.transaction():
        pass
