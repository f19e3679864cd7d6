"""The engine and the store, which die whenever they like, against a model of what tasks do."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import select

from aiflow_core.model.condition import task_status_key
from aiflow_core.model.event import Event, EventType, new_event_id
from aiflow_core.model.execution import AttemptKey, TaskExecution
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TaskStatus, may_follow
from aiflow_core.model.workflow import TaskDefinition, WorkflowDefinition
from aiflow_core.testing.models import Machine, Runner
from aiflow_scheduler_event import store as store_module
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.commands import ActOnTask, StartExecution, StopExecution, SubmitWorkflow
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Alarm, Changes, Stop, Submit
from aiflow_scheduler_event.step import Report, Step
from aiflow_scheduler_event.store import Store

from .play import on, seen, task, when
from .task_model import Spec, TaskModel
from .test_store import empty
from .world import DEATHS, World

pytestmark = pytest.mark.model

WORKFLOWS: dict[str, dict[str, Spec]] = {
    "flow": {
        "a": Spec((("STOP", "halt"),), retries=3, timeout=60),
        "b": Spec((("START", {"a": "SUCCESS"}),), retries=2, retry_delay=5, retry_backoff=3),
        "c": Spec((("START", "go"), ("STOP", "halt"), ("RESTART", "again"))),
        "d": Spec(
            (
                ("RESTART", {"a": "RUNNING"}),
                ("STOP", {"a": "SUCCESS", "b": "QUEUED"}),
                ("START", {"b": "FAILED", "c": "STOPPED"}),
                ("START", {"a": "RETRYING"}),
            ),
            timeout=5,
        ),
    },
    "ticking": {
        "p": Spec((("STOP", "halt"), ("RESTART", {"q": "FAILED"})), period=30),
        "q": Spec((("RESTART", {"p": "RUNNING"}), ("STOP", "go")), retries=1, retry_delay=10),
    },
}
KEYS = ("go", "halt", "again", "nobody's")
SECONDS = (0.001, 1.0, 5.0, 10.0, 60.0)
REPORTS = (TaskStatus.RUNNING, TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.STOPPED)
ANY_ONE = st.integers(0, 1000)


def definition(name: str) -> WorkflowDefinition:
    def defined(task_name: str, spec: Spec) -> TaskDefinition:
        rules = [
            on(TaskAction(action), condition)
            if isinstance(condition, str)
            else when(TaskAction(action), **{t: TaskStatus(s) for t, s in condition.items()})
            for action, condition in spec.rules
        ]
        config = {name: getattr(spec, name) for name in ("retries", "retry_delay", "timeout")}
        period = f"interval@0 0 0 {spec.period}" if spec.period else None
        config |= {"retry_backoff": spec.retry_backoff, "periodic_expression": period}
        return task(task_name, *rules, **config)

    tasks = tuple(defined(*item) for item in WORKFLOWS[name].items())
    return WorkflowDefinition(name, "default", tasks)


class TaskMachine(Machine):
    """Commands, events, reports true and false, time and deaths in any order."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        empty(store)
        self.store = store
        self.model = TaskModel(WORKFLOWS)
        self.meanings: dict[str, Callable[[], None]] = {}
        self.sent: list[Event] = []
        self.last: dict[int, TaskExecution] = {}
        self.world = World(store, self._taken)
        for name in WORKFLOWS:
            self._command(SubmitWorkflow(definition(name)), lambda: None)
        self.world.take_in_all()

    # --- what is asked for ---

    @rule(workflow=st.sampled_from(tuple(WORKFLOWS)))
    def start(self, workflow: str) -> None:
        command = StartExecution(workflow, "default")
        self._command(command, lambda: self.model.start(workflow))

    @rule(which=ANY_ONE)
    def stop(self, which: int) -> None:
        id = self._execution(which)
        self._command(StopExecution(id), lambda: self.model.stop(id))

    @rule(which=ANY_ONE, name=st.sampled_from("abcdpq"), action=st.sampled_from(TaskAction))
    def act(self, which: int, name: str, action: TaskAction) -> None:
        id = self._execution(which)
        self._command(ActOnTask(id, name, action), lambda: self.model.act(id, name, action))

    @rule(key=st.sampled_from(KEYS))
    def send(self, key: str) -> None:
        self._append(Event(key, namespace="default"), lambda: self.model.hear(key))

    # --- what executors say ---

    @precondition(lambda self: self.world.submitted)
    @rule(back=st.integers(0, 5), statuses=st.lists(st.sampled_from(REPORTS), max_size=3))
    def report(self, back: int, statuses: list[TaskStatus]) -> None:
        """Of one of the latest attempts, in an order that may make no sense."""
        keys = list(self.world.submitted)
        for status in statuses:
            self._report(keys[-1 - back % len(keys)], status)

    @rule(status=st.sampled_from(REPORTS), seconds=st.sampled_from((0, 0.001, 5.0)))
    def report_of_all(self, status: TaskStatus, seconds: float) -> None:
        """Of every attempt that has not ended; then time passes."""
        for key in self.model.attempts():
            self._report(key, status)
        self.pass_time(seconds)

    @precondition(lambda self: self.world.submitted)
    @rule(which=ANY_ONE, status=st.sampled_from(REPORTS), ahead=st.sampled_from((0, 0, 1)))
    def report_of_any(self, which: int, status: TaskStatus, ahead: int) -> None:
        """Of an attempt of long ago, or of one that there is not yet."""
        keys = list(self.world.submitted)
        key = keys[which % len(keys)]
        self._report(msgspec.structs.replace(key, try_number=key.try_number + ahead), status)

    @precondition(lambda self: self.sent)
    @rule(which=ANY_ONE)
    def send_again(self, which: int) -> None:
        """The same event, by somebody who did not hear that it had arrived."""
        head = self.world.log.head()
        self.world.append(self.sent[which % len(self.sent)])
        assert self.world.log.head() == head

    # --- the process and its clock ---

    @rule(most=st.integers(1, 6), death=st.sampled_from(DEATHS))
    def take_in(self, most: int, death: str) -> None:
        self.world.take_in(most, death)

    @rule()
    def die(self) -> None:
        before = seen(self.world.state)
        self.world.start()
        assert seen(self.world.state) == before

    @rule()
    def take_in_all(self) -> None:
        """Then everybody has been told of every end, and of each once."""
        self.world.take_in_all()
        told: dict[int, list[str]] = {}
        for event in self.world.log.read(limit=1_000_000):
            if event.type is EventType.WORKFLOW_STATUS:
                told.setdefault(event.workflow_execution_id or 0, []).append(event.value or "")
        assert told == {
            e.id: ["RUNNING"] if e.status == "RUNNING" else ["RUNNING", e.status]
            for e in self.model.executions.values()
        }

    @rule(seconds=st.sampled_from(SECONDS))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        late = {k: ms for k, ms in self.model.timers.items() if ms <= self.world.clock.now_ms()}
        assert not late, f"these should have fired: {late}"

    @rule(seconds=st.sampled_from(SECONDS))
    def be_away(self, seconds: float) -> None:
        """Time passes while nobody looks; the timers are looked at, and the process dies."""
        self.world.sleep(seconds)
        self.world.look_at_timers()
        self.world.start()

    @rule(seconds=st.sampled_from((-3600, -1, 1, 3600)), own=st.booleans(), log=st.booleans())
    def set_clocks(self, seconds: float, own: bool, log: bool) -> None:
        """Of the scheduler's machine, of the log's, or of both, when they are the same."""
        self.world.set_clocks(seconds, own=own, log=log)

    # --- the model beside it ---

    def _command(self, command: Any, meaning: Callable[[], None]) -> None:
        value = encode(command).decode()
        self._append(Event("command", value, type=EventType.COMMAND), meaning)

    def _report(self, key: AttemptKey, status: TaskStatus) -> None:
        context = encode(Report(**msgspec.structs.asdict(key), reason="because")).decode()
        event = Event(
            task_status_key("flow", key.task_name),
            status,
            sender=str(key),
            context=context,
            type=EventType.TASK_STATUS,
        )
        self._append(event, lambda: self.model.report(key, status))

    def _append(self, event: Event, meaning: Callable[[], None]) -> None:
        event = msgspec.structs.replace(event, id=f"deed {len(self.sent)}")
        self.sent.append(event)
        self.meanings[event.id] = meaning
        self.world.append(event)
        if self.world.behind > 4:
            self.world.take_in_all()

    def _execution(self, which: int) -> int:
        """One of the executions; 0, which is nobody's id, when there is none."""
        ids = list(self.model.executions)
        return ids[-1 - which % len(ids)] if ids else 0

    def _taken(self, events: list[Event], changes: Changes) -> None:
        """What the real ones have made durable, the model does now; then both must be the same."""
        self.model.submitted.clear()
        self.model.stopped.clear()
        for event in events:
            self.model.reach(event.create_time)
            if event.type is EventType.TIMER:
                alarm = decode(event.value or "", Alarm)
                timer = alarm.timer
                self.model.reach(max(timer.fire_at, alarm.now_ms))
                self.model.ring(
                    *(timer.key.kind, timer.key.owner, timer.key.task_name, timer.fire_at)
                )
            elif event.id in self.meanings:
                self.meanings[event.id]()
            self.model.settle()
        messages = [entry.message for entry in changes.outbox]
        # Among executions there is no order that anybody is promised.
        submitted = [m.request.key for m in messages if isinstance(m, Submit)]
        assert sorted(submitted) == sorted(self.model.submitted)
        stopped = [m.key for m in messages if isinstance(m, Stop)]
        assert sorted(stopped) == sorted(self.model.stopped)
        for _, told in changes.told:
            if isinstance(told, TaskExecution):
                self._check_step(told)
        self._check_database()

    def _check_step(self, now: TaskExecution) -> None:
        before = self.last.get(now.id, msgspec.structs.replace(now, status=TaskStatus.INIT))
        assert may_follow(before.status, now.status), f"{before.status} to {now.status}"
        again = before.status is TaskStatus.RETRYING and now.status is TaskStatus.QUEUED
        assert now.try_number == before.try_number + again
        self.last[now.id] = now

    def _check_database(self) -> None:
        t, e, timer = tables.task_execution.c, tables.workflow_execution.c, tables.timer.c
        with self.store.engine.connect() as connection:
            rows = connection.execute(
                select(
                    *(t.workflow_execution_id, t.task_name, t.sequence_number, t.try_number),
                    t.status,
                )
            ).all()
            executions = connection.execute(select(e.id, e.status, e.stopping).order_by(e.id)).all()
            timers = connection.execute(select(timer.kind, timer.owner, timer.task_name)).all()
            moments = connection.scalars(select(timer.fire_at)).all()
            place = connection.scalar(select(tables.consumer.c.last_seq))
        model = self.model
        assert sorted(rows) == sorted(model.rows())
        assert [tuple(e) for e in executions] == [
            (e.id, e.status, e.stopping) for e in model.executions.values()
        ]
        assert dict(zip(map(tuple, timers), moments, strict=True)) == model.timers
        assert place == self.world.state.offset
        alive = [row for row in rows if row.status not in ("SUCCESS", "FAILED", "STOPPED")]
        assert len(alive) == len({(row[0], row[1]) for row in alive}), "two attempts at a time"


MakeMachine = Callable[[], TaskMachine]


@contextmanager
def machines(url: str) -> Iterator[MakeMachine]:
    """Makes machines on that database, one after the other."""
    with closing(Store(url)) as store:
        store.initialize()
        yield lambda: TaskMachine(store)


def test_tasks_do_what_the_model_says(quick_database_url: str, run_model: Runner) -> None:
    runs = 10 if "sqlite" not in quick_database_url else 60
    with machines(quick_database_url) as make:
        run_model(make, runs=runs)


Fault = Callable[[pytest.MonkeyPatch], None]


def forget_a_timer(patch: pytest.MonkeyPatch) -> None:
    """Whoever loads the state misses one."""
    inner = store_module._load_state

    def load(connection: Any) -> Any:
        state = inner(connection)
        if state.timers:
            state.timers.popitem()
        return state

    patch.setattr(store_module, "_load_state", load)


def lose_what_was_not_delivered(patch: pytest.MonkeyPatch) -> None:
    inner = Store.load
    patch.setattr(Store, "load", lambda self: (inner(self)[0], []))


def believe_late_reports(patch: pytest.MonkeyPatch) -> None:
    """Take a report of an earlier attempt for one of the current attempt."""
    inner = Engine._report

    def report(self: Engine, event: Event) -> None:
        said = decode(event.context, Report)
        run = self.state.runs.get(said.workflow_execution_id)
        if run and said.task_name in run.tasks:
            key = msgspec.structs.asdict(run.tasks[said.task_name].attempt)
            event = msgspec.structs.replace(event, context=encode(Report(**key)).decode())
        inner(self, event)

    patch.setattr(Engine, "_report", report)


def send_under_a_new_id(patch: pytest.MonkeyPatch) -> None:
    inner = Step._send

    def send(self: Step, message: Any) -> None:
        inner(self, message)
        entries = self._changes.outbox
        entries[-1] = msgspec.structs.replace(entries[-1], id=new_event_id())

    patch.setattr(Step, "_send", send)


def retry_once_too_often(patch: pytest.MonkeyPatch) -> None:
    inner = Engine._end_attempt

    def end(self: Engine, run: Any, live: Any, status: TaskStatus, reason: str) -> None:
        earlier = msgspec.structs.replace(live, try_number=max(live.try_number - 1, 1))
        inner(self, run, earlier, status, reason)

    patch.setattr(Engine, "_end_attempt", end)


def let_the_log_date_the_timers(patch: pytest.MonkeyPatch) -> None:
    """As it was once: where the log's clock is behind, a tick follows on itself."""
    patch.setattr(Engine, "_now", property(lambda self: self._event.create_time))
    patch.setattr(Engine, "_reach", lambda self, time_ms: None)


def leave_the_time_out_set(patch: pytest.MonkeyPatch) -> None:
    inner = Engine._drop_timer

    def drop(self: Engine, key: Any) -> None:
        if key.kind != "TIMEOUT":
            inner(self, key)

    patch.setattr(Engine, "_drop_timer", drop)


@pytest.mark.parametrize(
    "fault",
    [
        forget_a_timer,
        lose_what_was_not_delivered,
        believe_late_reports,
        send_under_a_new_id,
        retry_once_too_often,
        let_the_log_date_the_timers,
        leave_the_time_out_set,
    ],
)
def test_a_fault_is_found(
    fault: Fault, quick_sqlite_url: str, run_model: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)

    with machines(quick_sqlite_url) as make:
        assert run_model.finds(make, runs=200)
