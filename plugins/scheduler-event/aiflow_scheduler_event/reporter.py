"""Brings events of the scheduler's own to the log: reports, timers, answers, what it publishes."""

import logging
import threading
from collections.abc import Callable

from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.errors import UnavailableError, UsageError
from aiflow_core.model.condition import task_status_key
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import AttemptReport
from aiflow_core.model.serialization import encode
from aiflow_core.specs.event_store import EventStore
from aiflow_scheduler_event.step import Report
from aiflow_scheduler_event.store import storable

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

    @property
    def waiting(self) -> int:
        """How many events wait for the log."""
        return len(self._waiting)

    def close(self) -> None:
        """End `run` when what was given before is appended, or at once when the log is away."""
        self._closed.set()
        with self._condition:
            self._condition.notify()

    def run(self) -> None:
        """Append until closed."""
        tries = 0
        while self._wait():
            try:
                self.flush()
                tries = 0
            except UnavailableError as error:
                if tries == 0:
                    log.warning("The event log is away, trying again: %s", error)
                if self._clock.wait(self._closed, _PAUSES[min(tries, len(_PAUSES) - 1)]):
                    # What is lost here is made again after the restart: every report, timer and
                    # answer follows from what is stored.
                    return
                tries += 1

    def flush(self) -> None:
        """Append what has waited longest, if anything waits. `UnavailableError`: the log is away,
        or its answer was lost; then all of it waits as before."""
        with self._condition:
            batch = self._waiting[:_MOST_AT_ONCE]
        if not batch:
            return
        crash_point("reporter.append.before")
        stored = self._append([event for event, _ in batch])
        crash_point("reporter.append.after")
        with self._condition:
            del self._waiting[: len(batch)]
            self._is_urgent = bool(self._waiting)
        self._appended(stored)
        for _, done in batch:
            if done is not None:
                done()

    def _wait(self) -> bool:
        """Until there is something to append; False when closed and done."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed.is_set())
            self._condition.wait_for(lambda: self._is_urgent or self._closed.is_set(), _LINGER)
            return bool(self._waiting)

    def _append(self, events: list[Event]) -> list[Event]:
        try:
            return self._events.append(events)
        except UsageError as error:
            if len(events) > 1:
                # One of them is refused; the others must not go with it.
                return [stored for event in events for stored in self._append([event])]
            log.error("The event log refuses an event, which is given up: %s", error)
            return []


def report_event(namespace: str, workflow_name: str, report: AttemptReport) -> Event:
    """The event that tells what became of an attempt; the same report makes the same one again."""
    key = report.key
    context = Report(
        key.workflow_execution_id,
        key.task_name,
        key.sequence_number,
        key.try_number,
        storable(report.reason),
    )
    return Event(
        key=task_status_key(workflow_name, key.task_name),
        value=report.status,
        namespace=namespace,
        sender=str(key),
        context=encode(context).decode(),
        type=EventType.TASK_STATUS,
        id=derived_event_id("report", key, report.status),
    )
