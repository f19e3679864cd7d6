"""The end of a log, followed once for everybody who waits for it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.specs.event_store import (
    PAGE_CHARACTERS,
    EventStore,
    PageSize,
    Subscription,
    characters,
)

log = logging.getLogger(__name__)

_RECENT_EVENTS = 10_000
_RECENT_CHARACTERS = 16 << 20
_RETRY_SECONDS = 1.0


class LogTail:
    """Keeps the newest events of a store in memory and wakes the readers when one is added.

    A hundred streams then cost one reading of the store and not a hundred. A reader that is further
    behind than the memory reaches is served from the store. All methods may be called from any
    thread.
    """

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._grown = threading.Condition()
        self._recent: deque[Event] = deque()
        self._characters = 0
        self._head = self._start = store.head()  # all events after `_start` are in `_recent`
        self._closed = threading.Event()
        self._subscription: Subscription | None = None
        self._follower = threading.Thread(target=self._follow, name="log-tail", daemon=True)
        self._follower.start()

    @property
    def head(self) -> int:
        """Offset of the newest event that is known here."""
        return self._head

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def next(
        self,
        after: int,
        filter: EventFilter,
        timeout: float,
        alive: Callable[[], bool],
        page: PageSize | None = None,
    ) -> tuple[list[Event], int]:
        """The next wanted events, a page of them, and the offset up to which there are no others.

        Waits at most `timeout` seconds for one, and no longer than `alive()` says and the tail is
        open; then the list is empty. Who makes `alive()` false calls `wake`. `page` is that of one
        who reads on.
        """
        page = page or PageSize()
        deadline = self._clock.monotonic() + timeout
        while True:
            with self._grown:
                behind = after < self._start
                recent = [] if behind else self._since(after)
                head = self._head
                if not behind and not recent:
                    remaining = deadline - self._clock.monotonic()
                    if remaining <= 0 or self.closed or not alive():
                        return [], after
                    self._grown.wait(remaining)
                    continue
            if behind:
                limit = page.limit
                events = self._store.read(after, until=head, limit=limit, filter=filter)
                after = events[-1].offset if len(events) == limit else max(after, head)
                page.saw(events)
            else:
                events = [event for event in recent if filter.matches(event)]
                after = recent[-1].offset
            if events:
                return events, after

    def appended(self, events: Sequence[Event]) -> None:
        """Hear of events from the one who appended them, which is sooner than from the store.

        Events that do not continue the log as it is known here are left for the store to tell:
        another append may have come between.
        """
        with self._grown:
            for event in events:
                if event.offset == self._head + 1:
                    self._add(event)
            self._grown.notify_all()

    def truncated(self, before: int) -> None:
        """Hear that the events before an offset have been deleted."""
        with self._grown:
            while self._recent and self._recent[0].offset < before:
                self._drop_oldest()

    def wake(self) -> None:
        """Let those who wait look again whether they should."""
        with self._grown:
            self._grown.notify_all()

    def close(self) -> None:
        """Stop following and end every wait."""
        self._closed.set()
        if self._subscription is not None:
            self._subscription.close()
        self.wake()
        self._follower.join()

    def _follow(self) -> None:
        while not self.closed:
            try:
                with self._store.subscribe(self._head) as self._subscription:
                    if self.closed:
                        return
                    for events in self._subscription:
                        self._heard(events)
            except UnavailableError as error:
                log.warning("The log cannot be followed, trying again: %s", error)
            self._clock.wait(self._closed, _RETRY_SECONDS)

    def _heard(self, events: Sequence[Event]) -> None:
        with self._grown:
            for event in events:
                if event.offset > self._head + 1:  # what lies between has been truncated
                    self._recent.clear()
                    self._characters = 0
                    self._start = event.offset - 1
                if event.offset > self._head:
                    self._add(event)
            self._grown.notify_all()

    def _add(self, event: Event) -> None:
        self._recent.append(event)
        self._characters += characters(event)
        self._head = event.offset
        while len(self._recent) > _RECENT_EVENTS or self._characters > _RECENT_CHARACTERS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._recent.popleft()
        self._characters -= characters(oldest)
        self._start = oldest.offset

    def _since(self, after: int) -> list[Event]:
        found: list[Event] = []
        for event in reversed(self._recent):
            if event.offset <= after:
                break
            found.append(event)
        found.reverse()
        # As much as a page: while it is sent, which may take long, it is kept in memory.
        sizes = accumulate(map(characters, found))
        return found[: max(1, sum(size <= PAGE_CHARACTERS for size in sizes))]
