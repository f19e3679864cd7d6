"""The engine in virtual time: no server, no database, no thread. See the contract."""

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

import msgspec

from aiflow_core.errors import AIFlowError, UsageError
from aiflow_core.model.condition import AnyCondition, CustomCondition
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptReport,
    AttemptRequest,
    DeadLetter,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import TaskExplanation
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import encode, from_plain
from aiflow_core.model.status import TASK_FINISHED
from aiflow_core.model.workflow import (
    DEFAULT_NAMESPACE,
    Workflow,
    WorkflowDefinition,
    check_definition,
)
from aiflow_core.specs.event_store import check_event
from aiflow_core.specs.simulation import Observer, Simulation
from aiflow_scheduler_event.close_up import AsItStands, ExecutionCloseUp, matches_by_task
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddSchedule,
    AddTrigger,
    Command,
    EnableWorkflow,
    PutNamespace,
    StartExecution,
    StopExecution,
    SubmitWorkflow,
)
from aiflow_scheduler_event.condition_host import Host, Question
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.reasons import TaskReasons
from aiflow_scheduler_event.reporter import report_event
from aiflow_scheduler_event.rules import Plan
from aiflow_scheduler_event.state import (
    Changes,
    Evaluate,
    Evaluation,
    LiveExecution,
    LiveTask,
    Publish,
    Run,
    Scope,
    ScopeKind,
    State,
    Stop,
    Submit,
    Timer,
    as_seen,
)
from aiflow_scheduler_event.step import Answer
from aiflow_scheduler_event.timers import timer_event

T = TypeVar("T")

# So many events at one moment of the virtual time are taken for a circle that never ends.
_MOST_AT_ONCE = 100_000


class EngineSimulation(Simulation):
    """The real engine on a log in memory."""

    def __init__(self, now_ms: int) -> None:
        self._now = now_ms
        self._state = State(namespaces={DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE)})
        self._engine = Engine(self._state)
        self._log: list[Event] = []
        self._waiting: deque[Event] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._number = count()
        self._attempts: dict[AttemptKey, AttemptRequest] = {}
        self._stopping: dict[AttemptKey, None] = {}
        self._replies: dict[str, Any] = {}
        self._executions: dict[int, LiveExecution] = {}
        self._plans: dict[int, Plan] = {}
        self._tasks: dict[int, dict[int, LiveTask]] = {}
        self._decisions: list[Decision] = []
        self._dead_letters: list[DeadLetter] = []
        self._observers: list[Observer] = []
        self._host = _OwnHost()
        self._moment = (now_ms, 0)

    @property
    def now_ms(self) -> int:
        return self._now

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    # --- what a user does ---

    def submit_workflow(self, workflow: Workflow | WorkflowDefinition) -> WorkflowInfo:
        definition = workflow.definition() if isinstance(workflow, Workflow) else workflow
        check_definition(definition)
        if definition.namespace not in self._state.namespaces:
            self._do(PutNamespace(definition.namespace, {}, False), Namespace)
        info = self._do(SubmitWorkflow(definition), WorkflowInfo)
        snapshot_id = self._state.current[info.id]
        self._plans[snapshot_id] = self._state.plans[snapshot_id]
        if isinstance(workflow, Workflow):
            self._host.workflows[str(snapshot_id)] = workflow
        return info

    def enable_workflow(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE, enabled: bool = True
    ) -> WorkflowInfo:
        return self._do(EnableWorkflow(workflow_name, namespace, enabled), WorkflowInfo)

    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution:
        return self._do(StartExecution(workflow_name, namespace), WorkflowExecution)

    def stop_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        return self._do(StopExecution(workflow_execution_id), WorkflowExecution)

    def act_on_task(
        self, workflow_execution_id: int, task_name: str, action: TaskAction
    ) -> TaskExecution:
        return self._do(ActOnTask(workflow_execution_id, task_name, action), TaskExecution)

    def add_workflow_schedule(
        self, expression: str, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowSchedule:
        return self._do(AddSchedule(workflow_name, namespace, expression), WorkflowSchedule)

    def add_workflow_trigger(
        self, rule: AnyCondition, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowTrigger:
        return self._do(AddTrigger(workflow_name, namespace, rule), WorkflowTrigger)

    def append(self, event: Event) -> Event:
        check_event(event)
        stored = self._put(event)
        self._take_in_all()
        return stored

    def _do(self, command: Command, type: type[T]) -> T:
        """Have a command carried out; what it is refused with is raised."""
        value = encode(command).decode()
        event = self.append(Event("command", value, type=EventType.COMMAND))
        reply = self._replies.pop(event.id)
        if reply.error is not None:
            raise AIFlowError.from_wire(reply.error)
        return from_plain(reply.result, type)

    # --- what an executor does ---

    def attempts(self) -> list[AttemptRequest]:
        return list(self._attempts.values())

    def stopping(self) -> list[AttemptKey]:
        return list(self._stopping)

    def report(self, report: AttemptReport) -> None:
        request = self._attempts.get(report.key)
        if request is None:
            raise UsageError(f"There is no attempt {report.key} that runs.")
        if report.status in TASK_FINISHED:
            del self._attempts[report.key]
            self._stopping.pop(report.key, None)
        self.append(report_event(request.namespace, request.workflow_name, report))

    # --- time ---

    def next_timer_ms(self) -> int | None:
        while self._timers:
            fire_at, _, timer = self._timers[0]
            if self._state.timers.get(timer.key) is timer:
                return max(fire_at, self._now)
            heapq.heappop(self._timers)  # set anew or dropped since
        return None

    def advance_to(self, now_ms: int) -> None:
        while (due := self.next_timer_ms()) is not None and due <= now_ms:
            _, _, timer = heapq.heappop(self._timers)
            self._now = due
            self.append(timer_event(timer, self._now))
        self._now = max(self._now, now_ms)

    # --- what can be seen ---

    def log(self) -> Sequence[Event]:
        return self._log

    def workflow_executions(self) -> list[WorkflowExecution]:
        return [as_seen(e) for e in self._executions.values()]  # type: ignore[misc]

    def task_executions(self, workflow_execution_id: int) -> list[TaskExecution]:
        found = self._tasks.get(workflow_execution_id, {})
        return [as_seen(live) for live in found.values()]  # type: ignore[misc]

    def decisions(self) -> Sequence[Decision]:
        return self._decisions

    def dead_letters(self) -> list[DeadLetter]:
        return list(self._dead_letters)

    def explain_task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        return TaskReasons(self._close_up(workflow_execution_id)).of_task(
            task_name,
            [
                d
                for d in self._decisions
                if (d.workflow_execution_id, d.task_name) == (workflow_execution_id, task_name)
            ],
        )

    def _close_up(self, execution_id: int) -> ExecutionCloseUp:
        execution = self._executions[execution_id]
        tasks = {t.task_name: t for t in self._tasks.get(execution_id, {}).values()}
        states = self._states(ScopeKind.EXECUTION, execution_id)
        return ExecutionCloseUp(
            workflow=self._state.workflows[execution.workflow_id],
            execution=execution,
            plan=self._plans[execution.snapshot_id],
            tasks=tasks,
            context=AsItStands(states, tasks),
            timers={k: t for k, t in self._state.timers.items() if k.owner == execution_id},
            evaluations=[],
            workers={},
            memories=self._states(ScopeKind.RULES, execution_id),
            waiting=matches_by_task(self._states(ScopeKind.WAITING, execution_id)),
            position=self._state.offset,
            now_ms=self._now,
        )

    def _states(self, kind: ScopeKind, id: int) -> dict[str, str]:
        kept = self._state.states.get(Scope(kind, id), {})
        return {name: state.value for name, state in kept.items()}

    # --- the log and the engine ---

    def _put(self, event: Event) -> Event:
        offset = len(self._log) + 1
        stored = msgspec.structs.replace(
            event,
            id=event.id or derived_event_id("simulation", offset),
            offset=offset,
            create_time=self._now,
        )
        self._log.append(stored)
        self._waiting.append(stored)
        return stored

    def _take_in_all(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            self._check_circle()
            changes = Changes()
            self._engine.apply(event, changes)
            self._take(event, changes)

    def _check_circle(self) -> None:
        moment, before = self._moment
        self._moment = (self._now, before + 1 if moment == self._now else 1)
        if self._moment[1] > _MOST_AT_ONCE:
            raise UsageError(
                f"{_MOST_AT_ONCE} events have followed from one another at one moment.",
                next_step="Rules that start one another for ever? Let their tasks take some time.",
            )

    def _take(self, event: Event, changes: Changes) -> None:
        for value in changes.stored.values():
            match value:
                case LiveExecution():
                    self._executions[value.id] = value
                case LiveTask():
                    self._tasks.setdefault(value.workflow_execution_id, {})[value.id] = value
                case Timer():
                    # Of two that are due at once the one set first fires first.
                    heapq.heappush(self._timers, (value.fire_at, next(self._number), value))
        self._decisions += changes.decisions
        self._dead_letters += [
            DeadLetter(x.offset, x.consumer, x.error, x.create_time, x.tries)
            for x in changes.dead_letters
        ]
        self._replies.update({reply.request_id: reply for reply in changes.replies})
        for observer in self._observers:
            told = [t for _, t in changes.told if isinstance(t, TaskExecution | WorkflowExecution)]
            observer(event, changes.decisions, told)
        for entry in changes.outbox:
            match entry.message:
                case Submit(request):
                    self._attempts[request.key] = request
                case Stop(key):
                    self._stopping[key] = None
                case Evaluate(evaluation):
                    self._evaluate(evaluation)
                case Publish():
                    self._put(entry.event)

    def _evaluate(self, evaluation: Evaluation) -> None:
        """Ask a condition of the author's; the answer is an event, as ever."""
        if evaluation.id not in self._state.evaluations:
            return  # its execution was stopped by the same step
        states = {n: s.value for n, s in self._state.states.get(evaluation.scope, {}).items()}
        run = self._state.runs.get(evaluation.scope.id) if not evaluation.trigger_id else None
        question = (
            self._of_task(run, evaluation, states)
            if run is not None
            else self._of_trigger(evaluation, states)
        )
        finding = self._host.find(question)
        answer = Answer(evaluation.id, finding.met, finding.states, finding.error)
        self._put(Event("answer", encode(answer).decode(), type=EventType.ANSWER))

    def _of_trigger(self, evaluation: Evaluation, states: dict[str, str]) -> Question:
        condition = self._state.triggers[evaluation.trigger_id].rule
        assert isinstance(condition, CustomCondition)
        return Question(evaluation.id, evaluation.event, states, code=condition.code)

    def _of_task(self, run: Run, evaluation: Evaluation, states: dict[str, str]) -> Question:
        condition = run.plan.tasks[evaluation.task_name].rules[evaluation.rule].condition
        assert isinstance(condition, CustomCondition)
        return Question(
            evaluation.id,
            evaluation.event,
            states,
            statuses={name: task.status for name, task in run.tasks.items()},
            root=str(run.plan.snapshot.id),
            place=condition.place,
            code=condition.code,
        )


class _OwnHost(Host):
    """Finds conditions in the workflows of this process.

    Attributes:
        workflows: by the root of the question: their snapshot.
    """

    def __init__(self) -> None:
        super().__init__()
        self.workflows: dict[str, Workflow] = {}

    def condition(self, question: Question) -> Any:
        if question.code:
            return super().condition(question)
        workflow = self.workflows.get(question.root)
        if workflow is None:
            raise UsageError(
                "Only the definition of the workflow is here, not its code.",
                next_step="Give the workflow file instead.",
            )
        task_name, _, number = question.place.rpartition("/")
        return workflow.rules[task_name][int(number)][1]
