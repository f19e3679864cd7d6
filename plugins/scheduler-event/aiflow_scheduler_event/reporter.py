"""Brings events of the scheduler's own to the log: reports, timers, answers, what it publishes."""

import logging
import threading
from collections.abc import Callable

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError, UsageError
from aiflow_core.model.event import Event
from aiflow_core.specs.event_store import EventStore

log = logging.getLogger(__name__)

Done = Callable[[], None]

_MOST_AT_ONCE = 500
_PAUSES = (0.1, 0.3, 1.0, 3.0)

# How long an event that decides nothing waits for one that does, to go to the log together with it:
# a short task's RUNNING report then costs no append of its own.
_LINGER = 0.02


class Reporter:
    """Appends what it is given, in order; what comes while one append is under way goes together in
    the next. An event stays with it until the log has it, or refuses it for good. `run` is the body
    of a thread."""

    def __init__(
        self, events: EventStore, clock: Clock, appended: Callable[[list[Event]], None]
    ) -> None:
        self._events = events
        self._clock = clock
        self._appended = appended
        self._condition = threading.Condition()
        self._waiting: list[tuple[Event, Done | None]] = []
        self._is_urgent = False
        self._closed = threading.Event()

    def append(self, event: Event, done: Done | None = None, urgent: bool = True) -> None:
        """Let the log have the event (with an id!), some time soon; then call `done`."""
        with self._condition:
            self._waiting.append((event, done))
            self._is_urgent = self._is_urgent or urgent
            self._condition.notify()

    def close(self) -> None:
        """End `run` when what was given before is appended, or at once when the log is away."""
        self._closed.set()
        with self._condition:
            self._condition.notify()

    def run(self) -> None:
        """Append until closed."""
        while batch := self._take():
            stored = self._append([event for event, _ in batch])
            if stored is None:
                return
            self._appended(stored)
            for _, done in batch:
                if done is not None:
                    done()

    def _take(self) -> list[tuple[Event, Done | None]]:
        """What waits, when there is something; nothing when closed and done."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed.is_set())
            self._condition.wait_for(lambda: self._is_urgent or self._closed.is_set(), _LINGER)
            batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._is_urgent = bool(self._waiting)
            return batch

    def _append(self, events: list[Event]) -> list[Event] | None:
        tries = 0
        while True:
            try:
                return self._events.append(events)
            except UnavailableError as error:
                if tries == 0:
                    log.warning("The event log is away, trying again: %s", error)
                if self._clock.wait(self._closed, _PAUSES[min(tries, len(_PAUSES) - 1)]):
                    # What is lost here is made again after the restart: every report, timer and
                    # answer follows from what is stored.
                    return None
                tries += 1
            except UsageError as error:
                if len(events) > 1:
                    return self._append_one_by_one(events)
                log.error("The event log refuses an event, which is given up: %s", error)
                return []

    def _append_one_by_one(self, events: list[Event]) -> list[Event] | None:
        """One of them is refused; the others must not go with it."""
        stored = []
        for event in events:
            part = self._append([event])
            if part is None:
                return None
            stored += part
        return stored
