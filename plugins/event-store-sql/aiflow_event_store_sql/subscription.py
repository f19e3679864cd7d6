"""Following the log: what this process appends is known at once, the rest by looking."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.specs.event_store import EventStore, PageSize, Subscription, characters
from aiflow_event_store_sql.probe import HeadProbe

log = logging.getLogger(__name__)

RECENT_EVENTS = 1000
RECENT_CHARACTERS = 4 * 1024 * 1024


class Tail:
    """The end of the log as this process knows it: the newest offset and some recent events."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._head = 0
        self._recent: deque[Event] = deque()  # without gaps
        self._characters = 0

    def publish(self, events: Sequence[Event]) -> None:
        """`events` have just become durable; calls come in the order of the log."""
        with self._moved:
            if self._recent and self._recent[-1].offset + 1 != events[0].offset:
                self._recent.clear()
                self._characters = 0
            for event in events:
                self._recent.append(event)
                self._characters += characters(event)
            while len(self._recent) > RECENT_EVENTS or self._characters > RECENT_CHARACTERS:
                self._characters -= characters(self._recent.popleft())
            self._head = max(self._head, events[-1].offset)
            self._moved.notify_all()

    def discover(self, head: int) -> None:
        """The log was seen to reach `head`."""
        with self._moved:
            if head > self._head:
                self._head = head
                self._moved.notify_all()

    def wait(self, position: int, cancelled: threading.Event) -> int:
        """Block until the log reaches beyond `position` or `cancelled` is set; its head.

        Who sets `cancelled` calls `wake` afterwards.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._head > position or cancelled.is_set())
            return self._head

    def wake(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def after(self, position: int) -> list[Event]:
        """The events that follow `position` without a gap; empty when they are not at hand."""
        with self._moved:
            if not self._recent or self._recent[0].offset > position + 1:
                return []
            return list(islice(self._recent, position + 1 - self._recent[0].offset, None))


class Watcher(threading.Thread):
    """Looks for what other processes append to the same database."""

    def __init__(self, probe: HeadProbe, tail: Tail, clock: Clock, interval: float) -> None:
        super().__init__(name="event-store-watcher", daemon=True)
        self._probe, self._tail, self._clock, self._interval = probe, tail, clock, interval
        self._stopped = threading.Event()

    def run(self) -> None:
        failing = False
        while not self._stopped.is_set():
            try:
                self._tail.discover(self._probe())
                failing = False
            except UnavailableError as error:
                if not failing:
                    log.warning("Waiting for the event log: %s", error)
                failing = True
            self._clock.wait(self._stopped, self._interval)
        self._probe.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


class SqlSubscription(Subscription):
    """Takes events from the tail where it can, from the database at first and when it is behind."""

    def __init__(
        self,
        store: EventStore,
        tail: Tail,
        clock: Clock,
        interval: float,
        after: int,
        filter: EventFilter,
        on_close: "Callable[[SqlSubscription], None]",
    ) -> None:
        self._store, self._tail, self._clock, self._interval = store, tail, clock, interval
        self._position = after  # up to here everything was looked at, wanted or not
        # What the tail remembers of the time before, another process may have cut off the log.
        self._takes_from_tail = False
        self._filter = filter
        self._on_close = on_close
        self._page = PageSize()
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[list[Event]]:
        while not self._closed.is_set():
            events = self._next()
            if events:
                yield events

    def close(self) -> None:
        self._closed.set()
        self._tail.wake()
        self._on_close(self)

    def _next(self) -> list[Event]:
        head = self._tail.wait(self._position, self._closed)
        if self._closed.is_set():
            return []
        recent = self._tail.after(self._position) if self._takes_from_tail else []
        if recent:
            self._position = recent[-1].offset
            return [event for event in recent if self._filter.matches(event)]
        limit = self._page.limit
        try:
            events = self._store.read(self._position, until=head, limit=limit, filter=self._filter)
        except UnavailableError as error:
            log.warning("Trying the event log again: %s", error)
            self._clock.wait(self._closed, self._interval)
            return []
        self._takes_from_tail = True
        self._position = events[-1].offset if len(events) == limit else head
        self._page.saw(events)
        return events
