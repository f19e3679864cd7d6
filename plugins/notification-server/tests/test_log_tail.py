"""Following the end of a log once for many."""

from collections.abc import Iterator
from typing import Any

import pytest

from aiflow_core.clock import Clock
from aiflow_core.model.event import EVERYTHING, Event, EventFilter
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_notification_server import log_tail
from aiflow_notification_server.log_tail import LogTail

ALIVE = bool(1).__bool__


class Counting(MemoryEventStore):
    """Counts how often it is read."""

    reads = 0

    def read(self, *args: Any, **kwargs: Any) -> list[Event]:
        self.reads += 1
        return super().read(*args, **kwargs)


@pytest.fixture
def store() -> Iterator[Counting]:
    store = Counting()
    store.append([Event("old"), Event("old")])
    yield store
    store.close()


@pytest.fixture
def tail(store: Counting) -> Iterator[LogTail]:
    tail = LogTail(store, Clock())
    yield tail
    tail.close()


def take(tail: LogTail, after: int, filter: EventFilter = EVERYTHING) -> list[int]:
    events, _ = tail.next(after, filter, 20, ALIVE)
    return [event.offset for event in events]


def test_what_is_new_is_served_from_memory(store: Counting, tail: LogTail) -> None:
    store.append([Event("new")])

    assert [take(tail, 2) for _ in range(10)] == [[3]] * 10
    assert store.reads == 0


def test_what_is_older_than_the_tail_is_read_from_the_store(store: Counting, tail: LogTail) -> None:
    assert take(tail, 0) == [1, 2]
    assert store.reads == 1


def test_one_who_appends_is_heard_before_the_store_tells(store: Counting, tail: LogTail) -> None:
    tail.appended(store.append([Event("new")]))

    assert tail.head == 3
    assert take(tail, 2) == [3]


def test_what_does_not_continue_the_log_is_left_for_the_store_to_tell(
    store: Counting, tail: LogTail
) -> None:
    between = Event("told too early", offset=9)

    tail.appended([between])

    assert tail.head == 2


def test_the_memory_is_limited_and_what_left_it_is_read_from_the_store(
    store: Counting, tail: LogTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "_RECENT_EVENTS", 10)
    tail.appended(store.append([Event("new") for _ in range(100)]))

    assert take(tail, 92) == list(range(93, 103))
    assert store.reads == 0
    assert take(tail, 91) == list(range(92, 103))
    assert store.reads == 1


def test_large_events_leave_the_memory_sooner(
    store: Counting, tail: LogTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "_RECENT_CHARACTERS", 1000)
    tail.appended(store.append([Event("new", "x" * 400) for _ in range(5)]))

    assert take(tail, 5) == [6, 7]
    assert store.reads == 0
    assert take(tail, 2) == [3, 4, 5, 6, 7]
    assert store.reads == 1


def test_what_is_taken_from_the_memory_at_once_is_limited(
    store: Counting, tail: LogTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "PAGE_CHARACTERS", 1000)
    tail.appended(store.append([Event("new", "x" * 400) for _ in range(5)]))
    tail.appended(store.append([Event("new", "x" * 4000)]))

    assert [take(tail, after) for after in (2, 4, 6, 7)] == [[3, 4], [5, 6], [7], [8]]
    assert store.reads == 0


def test_who_waits_for_few_is_told_how_far_the_many_were_searched(
    store: Counting, tail: LogTail
) -> None:
    tail.appended(store.append([Event("other") for _ in range(50)]))

    events, position = tail.next(0, EventFilter(keys=("wanted",)), 0.0, ALIVE)

    assert (events, position) == ([], 52)


def test_closing_ends_the_wait(store: Counting, tail: LogTail) -> None:
    tail.close()

    assert tail.next(2, EVERYTHING, 20, ALIVE) == ([], 2)


def test_a_reader_who_is_no_more_does_not_wait(tail: LogTail) -> None:
    assert tail.next(2, EVERYTHING, 20, lambda: False) == ([], 2)
