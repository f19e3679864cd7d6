"""Timers become events when they are due."""

import queue
import threading
from collections.abc import Iterator

import pytest

from aiflow_core.model.event import Event, EventType
from aiflow_core.model.serialization import decode
from aiflow_core.testing.clock import ManualClock
from aiflow_scheduler_event.state import Alarm, Timer, TimerKey, TimerKind
from aiflow_scheduler_event.timers import Timers, timer_event

DEADLINE = 20.0


class Stage:
    """Timers that run, and what they fired."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fired: queue.Queue[Event] = queue.Queue()
        self.timers = Timers(self.clock, self.fired.put)
        self.thread = threading.Thread(target=self.timers.run, name="timers")
        self.thread.start()

    def timer(self, owner: int, seconds: float) -> Timer:
        """A timer that is due in so many seconds."""
        key = TimerKey(TimerKind.RETRY, owner, "t")
        return Timer(key, self.clock.now_ms() + round(seconds * 1000))

    def set(self, *timers: Timer) -> None:
        self.timers.update([(timer.key, timer) for timer in timers])

    def take(self) -> Timer:
        """The next timer that is fired."""
        return decode(self.fired.get(timeout=DEADLINE).value or "", Alarm).timer

    def nothing_fires(self) -> bool:
        """Nothing does, up to now: a timer that is due now is the first to be heard of."""
        probe = self.timer(999, 0)
        self.set(probe)
        return self.take() == probe


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.timers.close()
    stage.thread.join(DEADLINE)
    assert not stage.thread.is_alive()


def test_a_timer_fires_when_its_time_has_come(stage: Stage) -> None:
    timer = stage.timer(1, 10)
    stage.set(timer)
    assert stage.nothing_fires()

    stage.clock.advance(9.999)
    assert stage.nothing_fires()
    stage.clock.advance(0.001)

    assert stage.take() == timer


def test_one_whose_time_is_past_fires_at_once(stage: Stage) -> None:
    timer = stage.timer(1, -3600)

    stage.set(timer)

    assert stage.take() == timer


def test_timers_fire_in_the_order_of_their_times(stage: Stage) -> None:
    timers = [stage.timer(n, seconds) for n, seconds in enumerate((30, 10, 20))]
    stage.set(*timers)
    stage.clock.await_waiters()

    stage.clock.advance(60)

    assert [stage.take() for _ in timers] == [timers[1], timers[2], timers[0]]


def test_a_timer_that_was_dropped_does_not_fire(stage: Stage) -> None:
    timer = stage.timer(1, 10)
    stage.set(timer)
    stage.timers.update([(timer.key, None)])

    stage.clock.advance(60)

    assert stage.nothing_fires()


def test_a_timer_that_was_set_anew_fires_at_its_new_time_only(stage: Stage) -> None:
    stage.set(stage.timer(1, 10))
    later = stage.timer(1, 20)
    stage.set(later)

    stage.clock.advance(15)
    assert stage.nothing_fires()
    stage.clock.advance(5)

    assert stage.take() == later


def test_a_timer_that_is_set_earlier_fires_earlier(stage: Stage) -> None:
    stage.set(stage.timer(1, 1000))
    stage.clock.await_waiters()
    earlier = stage.timer(1, 10)
    stage.set(earlier)

    stage.clock.advance(10)

    assert stage.take() == earlier


def test_a_timer_fires_once(stage: Stage) -> None:
    stage.set(stage.timer(1, 10))
    stage.clock.advance(10)
    stage.take()

    stage.clock.advance(3600)

    assert stage.nothing_fires()


def test_replacing_all_forgets_those_that_are_not_named(stage: Stage) -> None:
    stage.set(stage.timer(1, 10), stage.timer(2, 10))
    kept = stage.timer(3, 10)
    stage.timers.replace_all([kept])

    stage.clock.advance(10)

    assert stage.take() == kept
    assert stage.nothing_fires()


def test_a_wall_clock_that_is_set_forward_is_noticed(stage: Stage) -> None:
    timer = stage.timer(1, 3600)
    stage.set(timer)
    stage.clock.await_waiters()

    stage.clock.jump(3600)
    stage.clock.advance(30)

    assert stage.take() == timer


def test_the_event_of_a_timer_has_the_same_id_each_time() -> None:
    key = TimerKey(TimerKind.PERIOD, 7, "t")
    event = timer_event(Timer(key, 5), 5)

    assert event.type is EventType.TIMER
    assert event.id == timer_event(Timer(key, 5), 7).id
    others = [Timer(key, 6), Timer(TimerKey(TimerKind.PERIOD, 8, "t"), 5)]
    assert event.id not in [timer_event(other, 7).id for other in others]
