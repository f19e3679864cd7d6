"""What has ended stays as it ended: the database itself refuses another word about it.

Whatever the engine, or whoever takes its place, wants to write.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from aiflow_core.model.status import (
    TASK_FINISHED,
    WORKFLOW_FINISHED,
    TaskStatus,
    WorkflowStatus,
)
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.state import Changes, LiveExecution, LiveTask, State, Timer, TimerKey
from aiflow_scheduler_event.state import TimerKind as Kind
from aiflow_scheduler_event.store import LostRaceError, Store, UnstorableError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
TASK = LiveTask(1, 1, "t", 1, begin_date=NOON, end_date=NOON, reason="as it was")
EXECUTION = LiveExecution(1, 1, NOON, end_date=NOON, snapshot_id=1, reason="as it was")

ENDS = [
    *((TASK, status, tuple(TaskStatus)) for status in sorted(TASK_FINISHED)),
    *((EXECUTION, status, tuple(WorkflowStatus)) for status in sorted(WORKFLOW_FINISHED)),
]
TABLES = {LiveTask: tables.task_execution, LiveExecution: tables.workflow_execution}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(Store(database_url)) as store:
        store.initialize()
        yield store


def ended(store: Store, value: Any) -> State:
    """The state in which the store is once the value has been written."""
    state = store.load()[0]
    state.offset = 1
    state.counters = msgspec.structs.replace(state.counters, task=1, execution=1)
    changes = Changes()
    changes.put(value)
    store.commit(0, state, changes, [])
    return state


def row(store: Store, value: Any) -> Any:
    with store.engine.connect() as connection:
        return connection.execute(select(TABLES[type(value)])).one()


@pytest.mark.parametrize(
    ("value", "end", "others"), ENDS, ids=[f"{type(v).__name__} {end}" for v, end, _ in ENDS]
)
class TestEnded:
    def test_no_status_follows_not_even_the_same(
        self, store: Store, value: Any, end: str, others: tuple[str, ...]
    ) -> None:
        value = msgspec.structs.replace(value, status=end)
        state = ended(store, value)
        before = row(store, value)

        for status in others:
            changes = Changes()
            changes.put(
                msgspec.structs.replace(value, status=status, reason="another", end_date=None)
            )
            state.offset = 2
            with pytest.raises(LostRaceError):
                store.commit(1, state, changes, [])

            assert row(store, value) == before

    def test_nothing_is_kept_of_what_was_to_be_written_with_it(
        self, store: Store, value: Any, end: str, others: tuple[str, ...]
    ) -> None:
        value = msgspec.structs.replace(value, status=end)
        state = ended(store, value)
        changes = Changes()
        changes.put(Timer(TimerKey(Kind.RETRY, 1, "t"), 5))
        changes.put(msgspec.structs.replace(value, reason="another"))
        state.offset = 2

        with pytest.raises(LostRaceError):
            store.commit(1, state, changes, [])

        loaded = store.load()[0]
        assert loaded.offset == 1
        assert loaded.timers == {}

    def test_whoever_has_forgotten_that_it_is_there_cannot_make_it_anew(
        self, store: Store, value: Any, end: str, others: tuple[str, ...]
    ) -> None:
        value = msgspec.structs.replace(value, status=end)
        ended(store, value)
        before = row(store, value)
        changes = Changes()
        changes.put(msgspec.structs.replace(value, status=others[0]))
        with closing(Store(store.uri)) as forgetful, pytest.raises(UnstorableError):
            forgetful.commit(1, State(offset=2), changes, [])

        assert row(store, value) == before
