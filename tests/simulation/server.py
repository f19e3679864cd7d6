"""An AIFlow server in a simulation: the real parts, without their threads."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aiflow_core import crash
from aiflow_core.deployment import Deployment
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, EventType, derived_event_id
from aiflow_core.model.serialization import encode
from aiflow_core.specs.event_store import EventStore, Subscription
from aiflow_core.specs.executor import alone
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_scheduler_event.running import Running
from aiflow_scheduler_event.state import Evaluation, State
from aiflow_scheduler_event.step import Answer
from aiflow_scheduler_event.store import LostRaceError, Store

from .machine import Machine, SimulatedExecutor
from .oracle import Violation
from .world import Crash, World

TTL = 1.0
"""Seconds that a lease lasts."""

_DATABASE = ("scheduler.commit", "claim", "lease")


class Audience:
    """Hooks that keep what the scheduler tells.

    Attributes:
        told: offsets of events, and of what is told because of them.
    """

    heard = frozenset({"event_appended"})

    def __init__(self) -> None:
        self.told: list[tuple[int, Any]] = []

    def event_appended(self, event: Event, begun_ms: int, decided_ms: int) -> None:
        self.told.append((event.offset, None))

    def __getattr__(self, moment: str) -> Any:
        def tell(*, offset: int, **facts: Any) -> None:
            self.told.append((offset, *facts.values()))

        return tell


class Line(EventStore):
    """The way from one server to the log."""

    def __init__(self, world: World, log: EventStore, told: Callable[[], None]) -> None:
        self._world = world
        self._log = log
        self._told = told
        self.cut_until = 0.0

    def _check(self) -> None:
        if self._world.now < self.cut_until:
            raise UnavailableError("The way to the log is cut.")

    def append(self, events: Sequence[Event]) -> list[Event]:
        with self._world.crossing(self._check):
            stored = self._log.append(events)
            self._told()
        return stored

    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        with self._world.crossing(self._check):
            return self._log.read(after, until=until, limit=limit, filter=filter)

    def head(self) -> int:
        with self._world.crossing(self._check):
            return self._log.head()

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> Subscription:
        raise AssertionError("the server's turns read the log")

    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        raise AssertionError("no server counts")

    def offset_at(self, time_ms: int) -> int:
        raise AssertionError("no server asks for times")

    def truncate(self, before: int) -> int:
        raise AssertionError("no server truncates")


class Hosts:
    """Condition hosts that find a condition met or not as they like, or die of it."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    def evaluate(self, evaluation: Evaluation, state: State) -> None:
        if evaluation.id in state.evaluations:
            self._server.later(200, lambda: self._answer(evaluation))

    def _answer(self, evaluation: Evaluation) -> None:
        chance = self._server.world.chance
        number = chance.randrange(4)
        answer = Answer(
            evaluation.id,
            met=number == 0,
            states={"seen": str(evaluation.event.offset)} if number < 2 else {},
            error="it raised" if number == 3 else "",
        )
        event = Event(
            key="answer",
            value=encode(answer).decode(),
            type=EventType.ANSWER,
            id=derived_event_id("answer", evaluation.id),
        )
        self._server.running.reporter.append(event)


class Server:
    """A server that is started, crashes, is paused, is cut off, and starts again.

    Attributes:
        running: the parts of the present process.
        lives: how often it has been started.
        lost_writes: how many of its writes were refused because another server leads.
    """

    running: Running

    def __init__(
        self,
        world: World,
        home: Path,
        store: Store,
        log: SqlEventStore,
        machine: Machine,
        *,
        ha: bool,
        shared_database: bool,
        shared_executor: bool,
        told: Callable[[], None],
    ) -> None:
        self.world = world
        self.name = home.name
        self.store = store
        self.machine = machine
        self.line = Line(world, log, told)
        self.lives = 0
        self.audiences: list[Audience] = []
        """One for each life."""
        self.lost_writes = 0
        self.is_alive = False
        self._home = home
        self._log = log
        self._ha = ha
        self._shared_executor = shared_executor
        self._paused_until = 0.0
        self._database_cut_until = 0.0
        self._turn_is_due = False
        self._alarm = 0.0
        self._epoch: int | None = None
        store.log = log if shared_database else None

    # --- life ---

    def start(self) -> None:
        """A new process, which knows what is stored."""
        self.lives += 1
        self.is_alive = True
        self._epoch = None
        self._turn_is_due = False
        self._alarm = 0.0
        executor = SimulatedExecutor(self.machine, self.later, self._shared_executor)
        deployment = Deployment(
            home=self._home,
            log_dir=self._home,
            notification_uri="",
            clock=self.world.clock,
            hooks=Audience(),
        )
        self.audiences.append(deployment.hooks)
        self.running = Running(
            *(self.store, deployment, self.line, executor),
            server=self.name,
            worker=f"{self.name}.{self.machine.boots}",
            ha=self._ha,
            ha_ttl=TTL,
        )
        self.running.hosts = Hosts(self)  # type: ignore[assignment]
        claim = self.running.claim if self._ha else alone
        executor.start(ExitStack(), deployment, MemoryBlobManager(), self.running.report, claim)
        self.world.note(self.name, "starts")
        self.act(self._join)
        self.later(1000 * TTL / 3, self._attend)

    def restart(self) -> None:
        """Start again, unless that was done before."""
        if not self.is_alive:
            self.start()

    def crash(self, why: str) -> None:
        """The process is gone."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.lives += 1  # nothing of what it had in hand happens any more
        self.world.note(self.name, "crashes", why)
        if not self._shared_executor and self.world.happens(self.world.faults.power):
            self.machine.lose_power()
        self.world.soon(2000 * TTL, self.restart)

    def pause(self, milliseconds: float) -> None:
        """The process stands still; others do not."""
        self._paused_until = self.world.now + milliseconds
        self.world.note(self.name, f"is paused for {milliseconds:.0f} ms")

    def cut(self, milliseconds: float, log: bool) -> None:
        """The way to the log, or to the database, is cut."""
        until = self.world.now + milliseconds
        if log:
            self.line.cut_until = until
        else:
            self._database_cut_until = until
        self.world.note(self.name, "is cut from the", "log" if log else "database")

    def heal(self) -> None:
        """All that is wrong with this server has an end."""
        self._paused_until = self._database_cut_until = self.line.cut_until = 0.0
        self.world.soon(100, self.restart)

    def has_decided(self, offset: int) -> bool:
        """Whether this server leads, has taken in the log up to there, and has told everybody."""
        loop = self.running.loop
        return self._epoch is not None and loop.state.offset == offset and not loop.outbox

    # --- turns ---

    def later(self, longest: float, what: Callable[[], None]) -> None:
        """Do something within so many milliseconds, as long as this process lives; while it is
        paused it has to wait."""
        life = self.lives

        def do() -> None:
            if life != self.lives:
                return
            if self.world.now < self._paused_until:
                self.world.after(self._paused_until - self.world.now, do)
                return
            self.act(what)

        self.world.soon(longest, do)

    def poke(self) -> None:
        """There may be something to do."""
        if self.is_alive and not self._turn_is_due:
            self._turn_is_due = True
            self.later(20, self._turn)

    def act(self, what: Callable[[], None]) -> None:
        """Let this process do something, in the course of which it may crash."""
        try:
            with crash.passing(self._pass):
                what()
        except UnavailableError as error:
            self.world.note(self.name, "fails:", error.what[:60])
            self.poke()
        except Crash as crashed:
            self.crash(f"at {crashed}")
        self._poke_if_busy()

    def _pass(self, name: str) -> None:
        faults = self.world.faults
        if self.world.happens(faults.crash):
            raise Crash(name)
        if not name.startswith(_DATABASE):
            return
        if name.endswith(".before") and self.world.now < self._database_cut_until:
            raise UnavailableError("The way to the database is cut.")
        if name.endswith(".after") and self.world.happens(faults.unanswered):
            raise UnavailableError(f"The answer was lost at {name}.")

    def _poke_if_busy(self) -> None:
        running = self.running
        if running.reporter.waiting or self._epoch != running.membership.epoch:
            self.poke()

    def _join(self) -> None:
        self.running.membership.join()
        if self.running.membership.epoch is None:
            self.running.resume_own()
        self.poke()

    def _attend(self) -> None:
        self.later(1000 * TTL / 3, self._attend)
        self.running.membership.attend()
        self.poke()

    def _turn(self) -> None:
        """One of each thing that the threads of a real server do, in any order."""
        self._turn_is_due = False
        faults, chance = self.world.faults, self.world.chance
        if self.world.happens(faults.pause):
            self.pause(chance.uniform(100, 3000 * TTL))
        if self.world.happens(faults.cut):
            self.cut(chance.uniform(100, 2000 * TTL), log=chance.random() < 0.5)
        things = [self._relay, self._lead, self._fire, self._decide]
        chance.shuffle(things)
        for thing in things:
            thing()
        self._fire()  # what was set just now may be due some time, too

    def _relay(self) -> None:
        self.running.reporter.flush()

    def _fire(self) -> None:
        wait = self.running.timers.fire_due()
        due = self.world.now + 1000 * wait + 1 if wait is not None else 0.0
        if due and (self._alarm <= self.world.now or due < self._alarm):
            self._alarm = due
            self.world.after(due - self.world.now, self.poke)

    def _lead(self) -> None:
        epoch = self.running.membership.epoch
        if epoch == self._epoch:
            return
        if self._epoch is not None:
            self.running.loop.end()
            self._epoch = None
        if epoch is not None and self._fenced(epoch, lambda: self.running.loop.begin(epoch)):
            self._epoch = epoch
            if epoch < self.world.epoch:
                raise Violation(f"epoch {epoch} began after epoch {self.world.epoch}")
            self.world.epoch = epoch
            self.world.note(self.name, "leads in epoch", epoch)

    def _decide(self) -> None:
        epoch, loop = self._epoch, self.running.loop
        if epoch is None or self.running.membership.epoch != epoch:
            return
        before = loop.state.offset
        self._deliver(before)
        try:
            decided = self._fenced(epoch, loop.step)
        except UnavailableError:
            self._epoch = None  # as the loop does: what is in memory is not to be used any more
            loop.end()
            raise
        if decided and loop.state.offset > before:
            if epoch < self.world.epoch:
                raise Violation(f"a write of epoch {epoch} was accepted in {self.world.epoch}")
            self.world.note(self.name, "has decided up to", loop.state.offset)
            self.poke()

    def _deliver(self, after: int) -> None:
        """What the subscription would bring: in parts, some of them twice, in any order."""
        events = self.line.read(after, limit=self.world.chance.choice((1, 3, 1000)))
        parts = [events[i : i + 4] for i in range(0, len(events), 4)]
        if self.world.happens(self.world.faults.repeated):
            parts += parts
            self.world.chance.shuffle(parts)
        for part in parts:
            self.running.loop.inbox.put(part)

    def _fenced(self, epoch: int, what: Callable[[], Any]) -> bool:
        """Do it as the leader; False when somebody else leads."""
        try:
            what()
        except LostRaceError:
            self.lost_writes += 1
            self.running.membership.fenced(epoch)
            self.running.loop.end()
            self._epoch = None
            self.world.note(self.name, "is fenced in epoch", epoch)
            return False
        return True
