"""What is reported gets to the log, in order and once, also when the log is away for a while."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.waiting import wait_until
from aiflow_scheduler_event.reporter import Reporter

DEADLINE = 20.0


class SlowEventStore(MemoryEventStore):
    """A log that may be away, or take its time.

    Attributes:
        appends: how many events each successful append had.
        refused: how many calls have failed.
        gate: an append waits until it is set.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.appends: list[int] = []
        self.away = False
        self.refused = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def append(self, events: Sequence[Event]) -> list[Event]:
        self.waiting.set()
        assert self.gate.wait(DEADLINE)
        if self.away:
            self.refused += 1
            raise UnavailableError("The log is away.")
        stored = super().append(events)
        self.appends.append(len(events))
        return stored

    def ids(self) -> list[str]:
        return [event.id for event in self.read(limit=10_000)]


class Stage:
    """A reporter that runs, and what it said was appended."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = SlowEventStore(self.clock)
        self.appended: list[Event] = []
        self.reporter = Reporter(self.log, self.clock, self.appended.extend)
        self.thread = threading.Thread(target=self.reporter.run, name="reporter")
        self.thread.start()

    def end(self) -> None:
        self.reporter.close()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def pass_time_until(self, condition: Callable[[], bool]) -> None:
        def look() -> bool:
            self.clock.advance(1)
            return condition()

        wait_until(look, "what was waited for")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.end()


def test_events_are_appended_in_order(stage: Stage) -> None:
    ids = [f"id {n}" for n in range(1200)]
    for id in ids:
        stage.reporter.append(Event("k", id=id))
    stage.end()

    assert stage.log.ids() == ids
    assert [event.id for event in stage.appended] == ids


def test_what_comes_during_an_append_goes_together_in_the_next(stage: Stage) -> None:
    stage.log.gate.clear()
    stage.reporter.append(Event("k", id="first"))
    assert stage.log.waiting.wait(DEADLINE)
    for n in range(700):
        stage.reporter.append(Event("k", id=f"id {n}"))
    stage.log.gate.set()
    stage.end()

    assert stage.log.appends == [1, 500, 200]


def test_it_is_said_when_an_event_is_in_the_log(stage: Stage) -> None:
    done = threading.Event()

    stage.reporter.append(Event("k", id="x"), done.set)

    assert done.wait(DEADLINE)
    assert stage.log.ids() == ["x"]


def test_a_repeated_event_is_in_the_log_once(stage: Stage) -> None:
    for _ in range(3):
        stage.reporter.append(Event("k", id="x"))
    stage.end()

    assert stage.log.ids() == ["x"]


def test_while_the_log_is_away_events_wait(stage: Stage) -> None:
    stage.log.away = True
    for n in range(3):
        stage.reporter.append(Event("k", id=str(n)))
    stage.pass_time_until(lambda: stage.log.refused >= 3)
    assert stage.appended == []

    stage.log.away = False
    stage.pass_time_until(lambda: len(stage.appended) == 3)

    assert stage.log.ids() == ["0", "1", "2"]


def test_it_ends_also_while_the_log_is_away(stage: Stage) -> None:
    stage.log.away = True
    stage.reporter.append(Event("k", id="x"))
    wait_until(lambda: stage.log.refused > 0, "the log refuses")

    stage.end()

    assert stage.appended == []


def test_an_event_that_the_log_refuses_for_good_does_not_take_others_with_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.log.gate.clear()
    for id, value in (("a", "1"), ("b", "\0"), ("c", "3")):
        stage.reporter.append(Event("k", value, id=id))
    stage.reporter.append(Event("k", "\0", id="d"))
    stage.log.gate.set()
    stage.end()

    assert stage.log.ids() == ["a", "c"]
    assert caplog.text.count("given up") == 2
