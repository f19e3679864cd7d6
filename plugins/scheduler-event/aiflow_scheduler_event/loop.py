"""The loop: events in, one transaction per batch, messages out.

Every batch is what has come since the last one: under load one commit carries many events. After
the commit the outbox is relayed; what is kept of it is struck off with a later commit, so a crash
repeats a message rather than losing it, and everybody who receives one knows it by its key.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from aiflow_core.clock import Clock, to_datetime
from aiflow_core.deployment import Deployment
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError, UsageError
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_core.specs.event_store import EventStore, Subscription
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import (
    Changes,
    DeadLetter,
    OutboxEntry,
    Reply,
    State,
    Timer,
)
from aiflow_scheduler_event.store import Store, UnstorableError, storable
from aiflow_scheduler_event.timers import Timers

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 500
_PAUSES = (0.1, 0.5, 1.0, 2.0)

# Delivered outbox entries are struck off with the next step; with no step, after so many seconds.
_TIDY_AFTER = 5.0


class Inbox:
    """Puts the events that come by two ways, by subscription and by our own appends, into one
    gapless order; each is taken once."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[int, Event] = {}
        self._next = 1
        self._woken = False

    def begin_after(self, offset: int) -> None:
        """Forget all, and expect the event after `offset`."""
        with self._condition:
            self._waiting.clear()
            self._next = offset + 1

    def offer(self, events: Iterable[Event]) -> None:
        """Take in events; those that were taken before are passed over."""
        with self._condition:
            for event in events:
                if event.offset >= self._next:
                    self._waiting[event.offset] = event
            if self._next in self._waiting:
                self._condition.notify()

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def take(self, most: int, timeout: float) -> list[Event]:
        """The next events in order, waiting for the first at most `timeout` seconds."""
        with self._condition:
            if self._next not in self._waiting and not self._woken:
                self._condition.wait(timeout)
            self._woken = False
            taken: list[Event] = []
            while len(taken) < most and self._next in self._waiting:
                taken.append(self._waiting.pop(self._next))
                self._next += 1
            return taken


class Loop:
    """Feeds the engine. `run` is the body of a thread; the other methods are called from any.

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
        deployment: Deployment,
        deliver: Callable[[OutboxEntry, Callable[[], None]], None],
        resume: Callable[[State], None],
    ) -> None:
        self.inbox = Inbox()
        self._store = store
        self._events = events
        self._timers = timers
        self._deployment = deployment
        self._deliver = deliver
        self._resume = resume
        self._closed = threading.Event()
        self._answers: dict[str, list[Future[Reply]]] = {}
        self._answers_lock = threading.Lock()
        self._delivered: list[str] = []
        self._delivered_lock = threading.Lock()
        self._engine: Engine | None = None
        self.opened: Future[None] = Future()
        """Done when the log has been found to fit the metadata, failed when it does not."""
        # Offsets up to which events are taken one by one, to find the one that does harm.
        self._careful_until = 0
        self._failures = 0

    @property
    def state(self) -> State:
        """The state of the engine; to be read by the loop's own thread only."""
        assert self._engine is not None
        return self._engine.state

    def expect(self, request_id: str) -> "Future[Reply]":
        """The answer to a command that is about to be appended. To be followed by `forget`."""
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
        self.inbox.wake()

    def run(self) -> None:
        """Take in events until closed. What fails is loaded afresh and taken up where it stood."""
        while not self._closed.is_set():
            try:
                self._session()
            except Exception as error:
                if self._closed.is_set():
                    return
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

    def _session(self) -> None:
        state, waiting = self._store.load()
        self._engine = Engine(state)
        self._check_log()
        self.inbox.begin_after(state.offset)
        self._timers.replace_all(state.timers.values())
        self._resume(state)
        with self._delivered_lock:
            self._delivered.clear()
        for entry in waiting:
            self._send(entry)
        with self._events.subscribe(state.offset) as subscription:
            reader = threading.Thread(
                target=self._read, args=(subscription,), name="scheduler-subscription", daemon=True
            )
            reader.start()
            try:
                while not self._closed.is_set() and reader.is_alive():
                    self._step()
            finally:
                subscription.close()
                reader.join()
        if not self._closed.is_set():
            raise UnavailableError("The scheduler no longer hears the event log.")

    def _read(self, subscription: Subscription) -> None:
        try:
            for events in subscription:
                self.inbox.offer(events)
        except AIFlowError as error:
            log.error("The event log cannot be read: %s", error)
        finally:
            self.inbox.wake()

    def _check_log(self) -> None:
        """Refuse a log that is older than the metadata: events would be missing, or their numbers
        be given to others."""
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

    def _step(self) -> None:
        most = 1 if self.state.offset < self._careful_until else _MOST_AT_ONCE
        batch = self.inbox.take(most, _TIDY_AFTER)
        with self._delivered_lock:
            sent, self._delivered = self._delivered, []
        if not batch and not sent:
            return
        before = self.state.offset
        changes = Changes()
        for event in batch:
            try:
                assert self._engine is not None
                self._engine.apply(event, changes)
            except Exception as error:
                self._harmed(before, batch, event, error)
                return
        try:
            self._store.commit(before, self.state, changes, sent)
        except UnstorableError as error:
            self._harmed(before, batch, batch[-1], error)
            return
        self._failures = 0
        self._after_commit(changes)

    def _harmed(self, before: int, batch: list[Event], event: Event, error: Exception) -> None:
        """An event cannot be taken in. Alone, it goes to the dead letters; in a batch, the batch is
        done again one by one, because the state in memory is half changed."""
        if len(batch) > 1:
            self._careful_until = event.offset
            raise error
        log.error("Event %d goes to the dead letters: %s", event.offset, error, exc_info=error)
        state, _ = self._store.load()
        state.offset = event.offset
        why = storable(f"{type(error).__name__}: {error}")
        changes = Changes()
        changes.dead_letters.append(
            DeadLetter(event.offset, "scheduler", why, to_datetime(event.create_time))
        )
        if event.type is EventType.COMMAND:
            refusal = UsageError(f"The scheduler cannot do this: {why}.")
            changes.replies.append(Reply(event.id, event.offset, error=refusal.to_wire()))
        self._store.commit(before, state, changes, [])
        self._engine = Engine(state)
        self._after_commit(changes)

    def _after_commit(self, changes: Changes) -> None:
        self._timers.update(
            (key, value if isinstance(value, Timer) else None)
            for (cls, key), value in changes.stored.items()
            if cls is Timer
        )
        for entry in changes.outbox:
            self._send(entry)
        for reply in changes.replies:
            with self._answers_lock:
                waiters = list(self._answers.get(reply.request_id, ()))
            for waiter in waiters:
                waiter.set_result(reply)
        self._tell(changes)

    def _send(self, entry: OutboxEntry) -> None:
        def arrived() -> None:
            with self._delivered_lock:
                self._delivered.append(entry.id)

        self._deliver(entry, arrived)

    def _tell(self, changes: Changes) -> None:
        hooks = self._deployment.hooks
        for value in changes.told:
            match value:
                case TaskExecution():
                    hooks.task_execution_changed(task_execution=value)
                case WorkflowExecution():
                    hooks.workflow_execution_changed(execution=value)
                case _:
                    hooks.workflow_submitted(workflow=value)
        for decision in changes.decisions:
            hooks.decision_made(decision=decision)
