"""Timers become events of the log when they are due.

Each such event has an id that follows from the timer and its moment, so that a timer fires once,
however often the scheduler is restarted in between.
"""

import heapq
import threading
from collections.abc import Callable, Iterable

from aiflow_core.clock import Clock
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.serialization import encode
from aiflow_scheduler_event.state import Alarm, Timer, TimerKey

# The clock may be set while we wait; look at it again at least so often.
_LONGEST_WAIT = 30.0


class Timers:
    """Fires what the engine has set. `run` is the body of a thread."""

    def __init__(self, clock: Clock, fire: Callable[[Event], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = False
        self._set: dict[TimerKey, Timer] = {}
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0

    def replace_all(self, timers: Iterable[Timer]) -> None:
        """Forget every timer and take these."""
        with self._lock:
            self._set.clear()
            self._heap.clear()
        self.update((timer.key, timer) for timer in timers)

    def update(self, changes: Iterable[tuple[TimerKey, Timer | None]]) -> None:
        """Set timers, or drop them (None)."""
        with self._lock:
            for key, timer in changes:
                if timer is None:
                    self._set.pop(key, None)
                else:
                    self._set[key] = timer
                    self._count += 1
                    heapq.heappush(self._heap, (timer.fire_at, self._count, timer))
        self._changed.set()

    def close(self) -> None:
        """End `run`."""
        self._closed = True
        self._changed.set()

    def run(self) -> None:
        """Fire each timer when it is due, until closed."""
        while not self._closed:
            self._changed.clear()
            self._clock.wait(self._changed, self.fire_due())

    def fire_due(self) -> float | None:
        """Fire the timers that are due; in how many seconds to look again, None when there is no
        other."""
        due, wait = self._take_due()
        for timer in due:
            self._fire(timer_event(timer, self._clock.now_ms()))
        return wait

    def _take_due(self) -> tuple[list[Timer], float | None]:
        """The timers that are due, and how many seconds to wait for the next."""
        due = []
        with self._lock:
            now = self._clock.now_ms()
            while self._heap:
                fire_at, _, timer = self._heap[0]
                if self._set.get(timer.key) is not timer:
                    heapq.heappop(self._heap)  # set anew or dropped since
                elif fire_at <= now:
                    heapq.heappop(self._heap)
                    del self._set[timer.key]
                    due.append(timer)
                else:
                    return due, min((fire_at - now) / 1000, _LONGEST_WAIT)
        return due, None


def timer_event(timer: Timer, now_ms: int) -> Event:
    """The event that says that the timer is due. Its id does not depend on when that is said."""
    return Event(
        key=f"timer.{timer.key.kind}",
        value=encode(Alarm(timer, now_ms)).decode(),
        type=EventType.TIMER,
        id=derived_event_id("timer", *_parts(timer)),
    )


def _parts(timer: Timer) -> tuple[object, ...]:
    return (timer.key.kind, timer.key.owner, timer.key.task_name, timer.fire_at)
