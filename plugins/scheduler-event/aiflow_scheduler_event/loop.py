"""The loop: events in, one transaction per batch, messages out.

Every batch is what has come since the last one: under load one commit carries many events. After
the commit the outbox is relayed; what is kept of it is struck off with a later commit, so a crash
repeats a message rather than losing it, and everybody who receives one knows it by its key.

Nothing here grows without bound. Who reads the log waits while the inbox is full; the loop waits
while too many messages are on their way to the log.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from aiflow_core.clock import Clock
from aiflow_core.deployment import Deployment
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.specs.event_store import EventStore, Subscription
from aiflow_scheduler_event.decider import Decider, Step, missing
from aiflow_scheduler_event.membership import Membership
from aiflow_scheduler_event.state import OutboxEntry, Reply, State, Timer
from aiflow_scheduler_event.store import LostRaceError, Store
from aiflow_scheduler_event.telling import tell
from aiflow_scheduler_event.timers import Timers

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 500
_PAUSES = (0.1, 0.5, 1.0, 2.0)

# Delivered outbox entries are struck off with the next step; with no step, after so many seconds.
_TIDY_AFTER = 5.0

MOST_WAITING = 10_000
"""Events that wait in memory to be taken in."""

MOST_UNSENT = 10_000
"""Messages that may be on their way to the log; beyond these nothing is decided."""


class Inbox:
    """Puts the events that come by two ways, by subscription and by our own appends, into one
    gapless order; each is taken once. While it is not open it takes none."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._condition = threading.Condition()
        self._waiting: dict[int, Event] = {}
        self._next: int | None = None
        self._woken = False

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, offset: int) -> None:
        """Forget all, and expect the event after `offset`."""
        with self._condition:
            self._waiting.clear()
            self._next = offset + 1

    def close(self) -> None:
        """Forget all, and let go who waits."""
        with self._condition:
            self._waiting.clear()
            self._next = None
            self._condition.notify_all()

    def offer(self, events: Iterable[Event]) -> None:
        """Take in events that the subscription will bring as well; those for which there is no
        room, or that were taken before, are passed over."""
        with self._condition:
            for event in events:
                if len(self._waiting) < self._most:
                    self._add(event)
            self._tell()

    def put(self, events: list[Event]) -> None:
        """Take in the next events of the subscription, as soon as there is room for them."""
        with self._condition:
            # What comes next has room, always: others may wait for it who came before it.
            self._condition.wait_for(
                lambda: (
                    self._next is None
                    or len(self._waiting) < self._most
                    or events[0].offset <= self._next
                )
            )
            for event in events:
                self._add(event)
            self._tell()

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def take(self, most: int, timeout: float) -> list[Event]:
        """The next events in order, waiting for the first at most `timeout` seconds."""
        with self._condition:
            if self._next not in self._waiting and not self._woken:
                self._condition.wait_for(
                    lambda: self._next in self._waiting or self._woken, timeout
                )
            self._woken = False
            taken: list[Event] = []
            while self._next is not None and len(taken) < most and self._next in self._waiting:
                taken.append(self._waiting.pop(self._next))
                self._next += 1
            if taken:
                self._condition.notify_all()  # there is room
            return taken

    def _add(self, event: Event) -> None:
        if self._next is not None and event.offset >= self._next:
            self._waiting[event.offset] = event

    def _tell(self) -> None:
        if self._next in self._waiting:
            self._condition.notify_all()


class Outbox:
    """Messages that are stored until they are delivered: which are on their way, and which have
    arrived but still stand in the database."""

    def __init__(self, most: int = MOST_UNSENT) -> None:
        self._most = most
        self._condition = threading.Condition()
        self._under_way: set[str] = set()
        self._arrived: list[str] = []

    def __len__(self) -> int:
        return len(self._under_way)

    def clear(self) -> None:
        """Forget all."""
        with self._condition:
            self._under_way.clear()
            self._arrived.clear()

    def add(self, entry: OutboxEntry) -> Callable[[], None]:
        """A message goes on its way; what to call when it has arrived."""

        def arrived() -> None:
            with self._condition:
                if entry.id in self._under_way:
                    self._under_way.remove(entry.id)
                    self._arrived.append(entry.id)
                    self._condition.notify_all()

        if entry.is_kept:
            with self._condition:
                self._under_way.add(entry.id)
        return arrived

    def take_arrived(self) -> list[str]:
        """The ids of those that have arrived since the last time."""
        with self._condition:
            arrived, self._arrived = self._arrived, []
            return arrived

    def has_room(self, timeout: float) -> bool:
        """Whether further messages may be sent, waiting at most `timeout` seconds for that."""
        with self._condition:
            return self._condition.wait_for(lambda: len(self._under_way) < self._most, timeout)


class Loop:
    """Feeds the decider while this server leads. `run` is the body of a thread, and made of `begin`
    and `step`; the other methods are called from any.

    Args:
        deliver: is given each message of the outbox after the commit, in order, with a function to
            call when one that is kept has arrived.
        resume: is given the state when it has been loaded, before the first event, to take up again
            what was under way.
    """

    def __init__(
        self,
        store: Store,
        events: EventStore,
        timers: Timers,
        membership: Membership,
        deployment: Deployment,
        deliver: Callable[[OutboxEntry, Callable[[], None]], None],
        resume: Callable[[State], None],
    ) -> None:
        self.inbox = Inbox()
        self.outbox = Outbox()
        self._store = store
        self._events = events
        self._timers = timers
        self._membership = membership
        self._deployment = deployment
        self._deliver = deliver
        self._resume = resume
        self._closed = threading.Event()
        self._answers: dict[str, list[Future[Reply]]] = {}
        self._answers_lock = threading.Lock()
        self._decider: Decider | None = None
        self.opened: Future[None] = Future()
        """Done when the log has been found to fit the metadata, failed when it does not."""
        self.taken_in = 0
        """Offset of the last event whose step is durable."""
        self._failures = 0

    @property
    def state(self) -> State:
        """The state of the engine; to be read by the loop's own thread only."""
        assert self._decider is not None
        return self._decider.state

    def expect(self, request_id: str) -> "Future[Reply]":
        """The answer to a command that is about to be appended, when it is this server that carries
        it out. To be followed by `forget`."""
        waiter: Future[Reply] = Future()
        with self._answers_lock:
            self._answers.setdefault(request_id, []).append(waiter)
        return waiter

    def forget(self, request_id: str, waiter: "Future[Reply]") -> None:
        """This one waits no more; others may wait for the same answer."""
        with self._answers_lock:
            waiters = self._answers[request_id]
            waiters.remove(waiter)
            if not waiters:
                del self._answers[request_id]

    def close(self) -> None:
        """End `run`."""
        self._closed.set()
        self._membership.wake()
        self.inbox.close()
        self.inbox.wake()

    def run(self) -> None:
        """Take in events whenever this server leads, until closed. What fails is loaded afresh and
        taken up where it stood."""
        while not self._closed.is_set():
            epoch = self._membership.wait(self._closed)
            if epoch is None:
                return
            try:
                self._session(epoch)
            except Exception as error:
                if self._closed.is_set():
                    return
                if isinstance(error, LostRaceError):
                    log.warning("A write of epoch %d was refused: %s", epoch, error)
                    self._membership.fenced(epoch)
                    continue
                if isinstance(error, ConfigError) and not self.opened.done():
                    self.opened.set_exception(error)
                if isinstance(error, AIFlowError):
                    log.error("The scheduler stands still and will try again: %s", error)
                else:
                    log.exception("The scheduler failed and will try again")
                pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
                self._failures += 1
                self._clock.wait(self._closed, pause)

    @property
    def _clock(self) -> Clock:
        return self._deployment.clock

    def begin(self, epoch: int) -> None:
        """Load what was last committed, and take it up again as the leader of that epoch.

        First decides on what the log holds already: what has become of an attempt may stand there,
        and only there, when its machine has failed.
        """
        self._decider = Decider(self._store, epoch)
        self.taken_in = self.state.offset
        head = self._check_log()
        self.outbox.clear()
        for entry in self._decider.unsent:
            self._send(entry)
        while self.state.offset < head:
            batch = self._events.read(self.state.offset, until=head, limit=_MOST_AT_ONCE)
            if not batch:
                raise missing(self.state.offset)
            begun_ms = self._clock.now_ms()
            for step in self._decider.take_in(batch, []):
                # What executors and condition hosts are to do follows from the state, below.
                self._after_commit(step, [e for e in step.due if e.is_kept], begun_ms)
        self.inbox.open(self.state.offset)
        self._timers.replace_all(self.state.timers.values())
        self._resume(self.state)

    def step(self, wait: float = 0) -> None:
        """Take in what has come, waiting for it at most so many seconds."""
        assert self._decider is not None
        batch: list[Event] = []
        if self.outbox.has_room(wait):
            batch = self.inbox.take(_MOST_AT_ONCE, wait)
        arrived = self.outbox.take_arrived()
        if not batch and not arrived:
            return
        begun_ms = self._clock.now_ms()
        for step in self._decider.take_in(batch, arrived):
            self._failures = 0
            self._timers.update(
                (key, value if isinstance(value, Timer) else None)
                for (cls, key), value in step.changes.stored.items()
                if cls is Timer
            )
            self._after_commit(step, step.due, begun_ms)

    def end(self) -> None:
        """Take in no more, until the next `begin`."""
        self.inbox.close()
        self._timers.replace_all(())

    def _session(self, epoch: int) -> None:
        try:
            self.begin(epoch)
            with self._events.subscribe(self.state.offset) as subscription:
                reader = threading.Thread(
                    target=self._read,
                    args=(subscription,),
                    name="scheduler-subscription",
                    daemon=True,
                )
                reader.start()
                try:
                    while self._goes_on(epoch) and reader.is_alive():
                        self.step(_TIDY_AFTER)
                finally:
                    subscription.close()
                    self.inbox.close()
                    reader.join()
        finally:
            self.end()
        if self._goes_on(epoch):
            raise UnavailableError("The scheduler no longer hears the event log.")

    def _goes_on(self, epoch: int) -> bool:
        return not self._closed.is_set() and self._membership.epoch == epoch

    def _read(self, subscription: Subscription) -> None:
        try:
            for events in subscription:
                self.inbox.put(events)
        except AIFlowError as error:
            log.error("The event log cannot be read: %s", error)
        finally:
            self.inbox.wake()

    def _check_log(self) -> int:
        """The end of the log. Refuse one that is older than the metadata: events would be missing,
        or their numbers be given to others."""
        head = self._events.head()
        if head < self.state.offset:
            raise ConfigError(
                f"The event log ends at offset {head}, but this scheduler has taken in events up "
                f"to {self.state.offset}: the log is older than the metadata.",
                next_step="Restore the log of the same moment, or start with empty metadata "
                "(`aiflow db reset`).",
            )
        if not self.opened.done():
            self.opened.set_result(None)
        return head

    def _after_commit(self, step: Step, due: Iterable[OutboxEntry], begun_ms: int) -> None:
        self.taken_in = self.state.offset
        if self._deployment.hooks.heard:
            # Before an executor knows of it: who is asked about an attempt has heard of its task.
            tell(self._deployment.hooks, step, begun_ms, self._clock.now_ms())
        for entry in due:
            self._send(entry)
        for reply in step.changes.replies:
            with self._answers_lock:
                waiters = list(self._answers.get(reply.request_id, ()))
            for waiter in waiters:
                waiter.set_result(reply)

    def _send(self, entry: OutboxEntry) -> None:
        self._deliver(entry, self.outbox.add(entry))
