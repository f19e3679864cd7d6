"""Schedules, with clocks that are set and a process that dies, against a calendar.

What is promised: at each moment that the expression names an execution starts, once. Moments that
were missed, because nobody was there or because the clock was set, are made up for by one.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from sqlalchemy import select

from aiflow_core.clock import to_ms
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.schedule import ScheduleOptions
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.testing.models import Machine, Runner
from aiflow_core.testing.timing_model import MINUTE, first_after
from aiflow_scheduler_event import schedules, tables, timers
from aiflow_scheduler_event.commands import (
    AddSchedule,
    Command,
    DeleteSchedules,
    EnableWorkflow,
    PauseSchedule,
    SubmitWorkflow,
)
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Alarm, Changes, Timer
from aiflow_scheduler_event.store import Store
from aiflow_scheduler_event.timers import Timers

from .play import START, on, task
from .test_store import empty
from .world import DEATHS, World

pytestmark = pytest.mark.model

EXPRESSIONS = (
    *("cron@* * * * *", "cron@*/7 * * * *", "cron@0 0 * * *", "cron@30 2 * * *"),
    *("cron@0 0 31 * *", "cron@59 23 29 2 *", "interval@0 0 0 20", "interval@0 0 7 0.5"),
)
# Before a leap day, a year's end, and the hours that many zones leave out or have twice.
BEGINNINGS = tuple(
    to_ms(datetime(*moment, tzinfo=UTC))
    for moment in (
        *((2024, 2, 28, 23, 57), (2023, 12, 31, 23, 57), (2023, 2, 28, 23, 59)),
        *((2024, 3, 31, 0, 57), (2024, 10, 27, 0, 57), (2024, 4, 30, 23, 50)),
    )
)
HOUR, DAY = 3600, 86400
SECONDS = (0.001, 1, 20, 59, 61, 300)
AWAY = (1, 59, HOUR, DAY, 40 * DAY)
JUMPS = (-DAY, -HOUR, -1, -0.005, 0.005, 1, HOUR, DAY)
ANY_ONE = st.integers(0, 1000)

FLOW = WorkflowDefinition("flow", "default", (task("waits", on(START, "never")),))


@dataclass
class Ticks:
    """What is expected of one schedule: when it is due next, None while it is paused."""

    expression: str
    due: int | None


class TickMachine(Machine):
    """Schedules that come and go, while clocks are set and the process dies."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        empty(store)
        self.store = store
        self.now = 0
        self.schedules: dict[int, Ticks] = {}
        self.added = 0
        self.ticks: list[tuple[int, int]] = []
        self.enabled = True
        self.started = 0
        self.meanings: dict[str, Callable[[], None]] = {}
        self.commands = 0

    @initialize(beginning=st.sampled_from(BEGINNINGS), expression=st.sampled_from(EXPRESSIONS))
    def begin(self, beginning: int, expression: str) -> None:
        self.world = World(self.store, self._taken, beginning)
        self._command(SubmitWorkflow(FLOW), lambda: None)
        self.add(expression)

    # --- what is asked for ---

    @precondition(lambda self: len(self.schedules) < 4)
    @rule(expression=st.sampled_from(EXPRESSIONS))
    def add(self, expression: str) -> None:
        def added() -> None:
            self.added += 1
            self.schedules[self.added] = Ticks(expression, first_after(expression, self.now))

        self._command(AddSchedule("flow", "default", expression), added)

    @precondition(lambda self: self.schedules)
    @rule(which=ANY_ONE, paused=st.booleans())
    def pause(self, which: int, paused: bool) -> None:
        id = self._one(which)

        def changed() -> None:
            ticks = self.schedules.get(id)
            if ticks and paused:
                ticks.due = None
            elif ticks and ticks.due is None:
                ticks.due = first_after(ticks.expression, self.now)

        self._command(PauseSchedule(id, paused), changed)

    @precondition(lambda self: self.schedules)
    @rule(which=ANY_ONE)
    def delete(self, which: int) -> None:
        id = self._one(which)
        self._command(DeleteSchedules((id,)), lambda: self.schedules.pop(id, None) and None)

    @rule(enabled=st.booleans())
    def enable(self, enabled: bool) -> None:
        def changed() -> None:
            self.enabled = enabled

        self._command(EnableWorkflow("flow", "default", enabled), changed)

    # --- the process and the clocks ---

    @rule(most=st.integers(1, 3), death=st.sampled_from(DEATHS))
    def take_in(self, most: int, death: str) -> None:
        self.world.take_in(most, death)

    @rule(seconds=st.sampled_from(SECONDS))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        now = self.world.clock.now_ms()
        late = [t for t in self.schedules.values() if t.due is not None and t.due <= now]
        assert not late, f"lost, although there was time: {late}"

    @rule(seconds=st.sampled_from(AWAY), looks=st.integers(0, 2))
    def be_away(self, seconds: float, looks: int) -> None:
        """The process is stopped, and started so much later; it dies again after each look."""
        self.world.sleep(seconds)
        self.world.start()
        for _ in range(looks):
            self.world.look_at_timers()
            self.world.start()

    @rule(seconds=st.sampled_from(JUMPS), own=st.booleans(), log=st.booleans())
    def set_clocks(self, seconds: float, own: bool, log: bool) -> None:
        """Of the scheduler's machine, of the log's, or of both, when they are the same."""
        self.world.set_clocks(seconds, own=own, log=log)

    # --- the calendar beside it ---

    def _one(self, which: int) -> int:
        ids = list(self.schedules)
        return ids[which % len(ids)]

    def _command(self, command: Command, meaning: Callable[[], None]) -> None:
        self.commands += 1
        id = f"command {self.commands}"
        self.meanings[id] = meaning
        value = encode(command).decode()
        self.world.append(Event("command", value, type=EventType.COMMAND, id=id))
        if self.world.behind > 3:
            self.world.take_in_all()

    def _taken(self, events: list[Event], changes: Changes) -> None:
        for event in events:
            self.now = max(self.now, event.create_time)
            if event.type is EventType.TIMER:
                self._alarm(decode(event.value or "", Alarm))
            elif event.id in self.meanings:
                self.meanings[event.id]()
        t, execution = tables.timer.c, tables.workflow_execution.c
        with self.store.engine.connect() as connection:
            armed = dict(connection.execute(select(t.owner, t.fire_at)).tuples().all())
            started = len(connection.execute(select(execution.id)).all())
        expected = {id: s.due for id, s in self.schedules.items() if s.due is not None}
        assert armed == expected
        assert started == self.started

    def _alarm(self, alarm: Alarm) -> None:
        timer = alarm.timer
        self.now = max(self.now, timer.fire_at, alarm.now_ms)
        ticks = self.schedules.get(timer.key.owner)
        if ticks is None or ticks.due != timer.fire_at:
            return
        tick = (timer.key.owner, timer.fire_at)
        assert tick not in self.ticks, "twice"
        self.ticks.append(tick)
        self.started += self.enabled
        ticks.due = first_after(ticks.expression, self.now)
        if ticks.expression.startswith("cron"):
            named = first_after(ticks.expression, timer.fire_at - MINUTE)
            assert named == timer.fire_at, "no moment that the expression names"


MakeMachine = Callable[[], TickMachine]


@contextmanager
def machines(url: str) -> Iterator[MakeMachine]:
    """Makes machines on that database, one after the other."""
    with closing(Store(url)) as store:
        store.initialize()
        yield lambda: TickMachine(store)


def test_schedules_do_what_the_calendar_says(quick_database_url: str, run_model: Runner) -> None:
    runs = 5 if "sqlite" not in quick_database_url else 40
    with machines(quick_database_url) as make:
        run_model(make, runs=runs)


# --- faults ---


def count_from_the_log_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "_now", property(lambda self: self._event.create_time))
    patch.setattr(Engine, "_reach", lambda self, time_ms: None)


def make_up_for_each(patch: pytest.MonkeyPatch) -> None:
    """Count the next tick from the last one, not from now."""
    inner, last = schedules.next_tick, dict[str, int]()

    def following(expression: str, options: ScheduleOptions, after_ms: int) -> int:
        since = min(after_ms, last.get(expression, after_ms))
        last[expression] = inner(expression, options, since) or 0
        return last[expression]

    patch.setattr(schedules, "next_tick", following)


def fire_again_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """Let an alarm that went off before count when it comes again."""
    patch.setattr(timers, "derived_event_id", lambda *parts: "")
    patch.setattr(Engine, "_drop_timer", lambda self, key: self._changes.delete(Timer, key))


def forget_the_timers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "replace_all", lambda self, timers: None)


def tick_one_minute_late(patch: pytest.MonkeyPatch) -> None:
    inner = schedules.next_tick
    patch.setattr(schedules, "next_tick", lambda *about: (inner(*about) or 0) + MINUTE)


@pytest.mark.parametrize(
    "fault",
    [
        count_from_the_log_only,
        make_up_for_each,
        fire_again_after_a_restart,
        forget_the_timers,
        tick_one_minute_late,
    ],
)
def test_a_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None],
    quick_sqlite_url: str,
    run_model: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)

    with machines(quick_sqlite_url) as make:
        assert run_model.finds(make, runs=60)
