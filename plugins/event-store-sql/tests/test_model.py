"""The log in SQLite, PostgreSQL and MariaDB against a model of a log."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from sqlalchemy import bindparam, literal, select, update

from aiflow_core.clock import Clock
from aiflow_core.database import open_engine
from aiflow_core.model.event import Event
from aiflow_core.testing.event_store_model import ANY_ONE, LISTS, LogMachine
from aiflow_core.testing.models import Runner
from aiflow_event_store_sql import queries
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_event_store_sql.subscription import SqlSubscription, Tail
from aiflow_event_store_sql.tables import event, log_head
from aiflow_event_store_sql.writer import SqlLogTransaction

pytestmark = pytest.mark.model


ALWAYS = property(lambda _: True, lambda *_: None)


class Abandoned(Exception):
    """Somebody does not go through with a transaction."""


class SqlLogMachine(LogMachine):
    """Appends in transactions of others as well, who may abandon them."""

    @rule(which=ANY_ONE, lists=st.lists(LISTS, max_size=3), abandoned=st.booleans())
    def append_in_a_transaction(
        self, which: int, lists: list[list[Event]], abandoned: bool
    ) -> None:
        store = self.store(which)
        assert isinstance(store, SqlEventStore)
        answers = []
        try:
            with store.transaction() as transaction:
                answers = [transaction.append(events) for events in lists]
                if abandoned:
                    raise Abandoned
        except Abandoned:
            return
        for events, answer in zip(lists, answers, strict=True):
            self.check_stored(events, answer)


MakeMachine = Callable[[], LogMachine]


@contextmanager
def machines(url: str) -> Iterator[MakeMachine]:
    """Makes machines for an empty log in that database, one after the other."""

    def open_store(clock: Clock) -> SqlEventStore:
        return SqlEventStore(url, clock=clock, poll_interval=0.005)

    def make() -> LogMachine:
        # Emptied, not made anew, which takes a hundred times as long.
        with engine.begin() as connection:
            connection.execute(event.delete())
            connection.execute(log_head.update().values(seq=0, last_ms=0))
        return SqlLogMachine(open_store, stores=2, durable=True)

    engine = open_engine(url)
    with closing(open_store(Clock())) as store:
        store.initialize()
    yield make
    engine.dispose()


def test_the_log_is_what_the_model_says(quick_database_url: str, run_model: Runner) -> None:
    runs = 10 if "sqlite" not in quick_database_url else 60
    with machines(quick_database_url) as make:
        run_model(make, runs=runs)


def leave_a_gap(patch: pytest.MonkeyPatch) -> None:
    further = {"seq": bindparam("seq") + 1, "last_ms": bindparam("last_ms")}
    patch.setattr(queries, "MOVE_HEAD", update(log_head).values(further))


def let_time_go_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queries, "LOCK_HEAD", select(log_head.c.seq, literal(0)))


def answer_a_repeat_with_itself(patch: pytest.MonkeyPatch) -> None:
    inner = SqlEventStore._insert

    def insert(self: SqlEventStore, lists: Any, *, look_up: bool) -> Any:
        stored = inner(self, lists, look_up=look_up)
        return [list(given) for given in lists] if look_up else stored

    patch.setattr(SqlEventStore, "_insert", insert)


def take_a_known_id_again(patch: pytest.MonkeyPatch) -> None:
    inner = SqlLogTransaction._stored
    patch.setattr(SqlLogTransaction, "_stored", lambda *args: dict(list(inner(*args).items())[1:]))


def remember_what_was_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SqlSubscription, "_takes_from_tail", ALWAYS, raising=False)


def look_at_nobody_else(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tail, "discover", lambda self, head: None)


@pytest.mark.parametrize(
    "fault",
    [
        leave_a_gap,
        let_time_go_back,
        answer_a_repeat_with_itself,
        take_a_known_id_again,
        remember_what_was_cut,
        look_at_nobody_else,
    ],
)
def test_a_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None],
    quick_sqlite_url: str,
    run_model: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)

    with machines(quick_sqlite_url) as make:
        assert run_model.finds(make, runs=60)
