"""A scheduler without threads: what each of them would do next is a call, and may be its last.

The engine, the store, the timers and a log in memory are the real ones. Between any two of their
deeds the process may die; what is left then is the database and the log.
"""

from collections.abc import Callable

from msgspec.structs import replace

from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Changes, OutboxEntry, Publish, Stop, Submit, Timer
from aiflow_scheduler_event.store import Store, alive_tasks
from aiflow_scheduler_event.timers import Timers

from .play import MONDAY

DEATHS = ("", "before the commit", "after the commit", "after delivery")
"""Where a process may die that takes in events; nowhere, too."""


class World:
    """A scheduler and its log.

    Attributes:
        clock: of the scheduler.
        log_clock: of the log, which may be on another machine.
        submitted: every attempt that an executor was ever given.
    """

    def __init__(
        self,
        store: Store,
        taken: Callable[[list[Event], Changes], None],
        now_ms: int = MONDAY,
    ) -> None:
        """`taken` is called with events and what they led to whenever that was made durable."""
        self.clock = ManualClock(now_ms)
        self.log_clock = ManualClock(now_ms)
        self.log = MemoryEventStore(self.log_clock)
        self.submitted: dict[AttemptKey, None] = {}
        self._store = store
        self._taken = taken
        self._outbox: dict[int, list[OutboxEntry]] = {}
        self.start()

    # --- the scheduler's process ---

    def start(self) -> None:
        """Start it, for the first time or after its death."""
        self.state, waiting = self._store.load()
        self._engine = Engine(self.state)
        self._delivered: list[str] = []
        self._timers = Timers(self.clock, self.append)
        self._timers.replace_all(self.state.timers.values())
        for _, live in alive_tasks(self.state):
            self.submitted[live.attempt] = None
        self._deliver(waiting)

    def take_in(self, most: int, death: str = "") -> None:
        """Take in the next events, and die there."""
        before = self.state.offset
        events = self.log.read(before, limit=most)
        changes = Changes()
        for event in events:
            known = len(changes.outbox)
            self._engine.apply(event, changes)
            sent = changes.outbox[known:]
            assert self._outbox.setdefault(event.offset, sent) == sent, "another decision"
        due: list[OutboxEntry] = []
        if death != "before the commit":
            due = self._store.commit(before, self.state, changes, self._delivered)
            self._delivered = []
            self._taken(events, changes)
        if death in ("", "after delivery"):
            self._timers.update(
                (key, value if isinstance(value, Timer) else None)
                for (cls, key), value in changes.stored.items()
                if cls is Timer
            )
            self._deliver(due)
        if death:
            self.start()

    def take_in_all(self) -> None:
        while self.behind:
            self.take_in(100)

    @property
    def behind(self) -> int:
        """How many events were not taken in yet."""
        return self.log.head() - self.state.offset

    def look_at_timers(self) -> float | None:
        """Fire what is due; how many seconds would be waited for the next."""
        return self._timers.fire_due()

    def _deliver(self, entries: list[OutboxEntry]) -> None:
        for entry in entries:
            match entry.message:
                case Publish(event):
                    self.append(replace(event, id=entry.id))
                    self._delivered.append(entry.id)
                case Submit(request):
                    self.submitted[request.key] = None
                case Stop(key):
                    assert key in self.submitted, "what was never started cannot be stopped"

    # --- what is outside ---

    def append(self, event: Event) -> None:
        self.log.append([event])

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the scheduler's threads do what there is to do."""
        end = self.clock.monotonic() + seconds
        while True:
            wait = self.look_at_timers()
            if self.behind:
                self.take_in_all()
                continue
            left = end - self.clock.monotonic()
            if left <= 0:
                return
            self.sleep(left if wait is None else min(wait, left))

    def sleep(self, seconds: float) -> None:
        """Let time pass while the scheduler does nothing, or is not there."""
        self.clock.advance(seconds)
        self.log_clock.advance(seconds)

    def set_clocks(self, seconds: float, own: bool = True, log: bool = True) -> None:
        """Set the clock of the scheduler's own machine, that of the log's, or both."""
        if own:
            self.clock.jump(seconds)
        if log:
            self.log_clock.jump(seconds)
