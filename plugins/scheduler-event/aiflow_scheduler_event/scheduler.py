"""The event scheduler: what is asked of it becomes a command in the log, its effect the answer."""

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from aiflow_core.database import SharesDatabase, TableUsage, same_database
from aiflow_core.deployment import Deployment, log_file
from aiflow_core.errors import (
    AIFlowError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WaitTimeoutError,
)
from aiflow_core.model.condition import AnyCondition
from aiflow_core.model.context import check_state_name
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import (
    BundleRef,
    DeadLetter,
    LogPage,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import (
    EventExplanation,
    TaskExplanation,
    WorkflowExplanation,
)
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.schedule import ScheduleOptions, check_schedule
from aiflow_core.model.serialization import Value, encode, from_plain
from aiflow_core.model.status import WORKFLOW_FINISHED
from aiflow_core.model.timing import FOREVER, retention_ms
from aiflow_core.model.workflow import DEFAULT_NAMESPACE, WorkflowDefinition, check_definition
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.event_store import MAX_EVENT_BYTES, EventStore
from aiflow_core.specs.executor import Executor, alone
from aiflow_core.specs.scheduler import (
    DeadLetterOperations,
    ExplanationOperations,
    LogOperations,
    NamespaceOperations,
    ScheduleOperations,
    Scheduler,
    SnapshotOperations,
    StateOperations,
    TriggerOperations,
    current_request_id,
    request,
)
from aiflow_core.specs.simulation import Simulated, Simulation
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddSchedule,
    AddTrigger,
    Command,
    DeleteExecution,
    DeleteNamespace,
    DeleteSchedules,
    DeleteSnapshots,
    DeleteTriggers,
    DeleteWorkflow,
    DropDeadLetters,
    EnableWorkflow,
    PauseSchedule,
    PauseTrigger,
    PutNamespace,
    PutState,
    RedriveDeadLetters,
    Redriven,
    StartExecution,
    StopExecution,
    StopExecutions,
    SubmitWorkflow,
)
from aiflow_scheduler_event.conditions import ConditionHosts, Limits
from aiflow_scheduler_event.explaining import Explainer
from aiflow_scheduler_event.history import History
from aiflow_scheduler_event.logs import read_page
from aiflow_scheduler_event.membership import Heartbeats, name_of, worker_of
from aiflow_scheduler_event.retention import Retention
from aiflow_scheduler_event.running import Running
from aiflow_scheduler_event.state import DeadLetter as KeptLetter
from aiflow_scheduler_event.state import Reply
from aiflow_scheduler_event.step import replace
from aiflow_scheduler_event.store import CONSUMER, Store
from aiflow_scheduler_event.tracing import Tracer

log = logging.getLogger(__name__)

# So many seconds the start waits for a log that does not answer; it is tried for ever after that.
_LOG_WAIT = 2.0

# While another server schedules, its answers are looked for in the database.
_FIRST_LOOK = 0.01
_LAST_LOOK = 0.5

# Letters that one command drops, which must fit into one event.
_DROPPED_AT_ONCE = 1000

T = TypeVar("T")
V = TypeVar("V", bound=Value)

Check = Callable[[], object]


def _anything_goes() -> None:
    """Nothing speaks against a command that the engine itself can judge."""


class EventScheduler(
    Scheduler,
    NamespaceOperations,
    ScheduleOperations,
    TriggerOperations,
    SnapshotOperations,
    StateOperations,
    LogOperations,
    DeadLetterOperations,
    ExplanationOperations,
    Simulated,
):
    """Schedules by the events of one log.

    Args:
        uri: of the database for the metadata.
        pool_enabled: whether connections to the database are kept open.
        pool_size: connections kept open (0: no limit); `max_overflow` more may be opened.
        command_timeout: seconds that a call waits for its effect.
        condition_time_limit: seconds that a user's condition may take for one event.
        condition_memory_limit: MiB that a process may take in which they are evaluated.
        condition_tries: of a condition for one event, before the event goes to the dead letters.
        condition_hosts: how many processes evaluate conditions at once.
        python: the interpreter in which users' conditions are evaluated.
        ha: there may be other servers on the same database, one of which schedules; where that one
            dies, another goes on.
        ha_ttl: seconds after which the one that schedules counts as dead when it was not heard of.
        heartbeat_timeout: seconds after which the attempts of one that was not heard of count as
            lost, and before which it has ended them itself where nobody else can see them; None is
            `ha_ttl`.
        heartbeat_interval: seconds between two signs of life, and `heartbeat_check_interval`
            between two looks for them.
        history_retention: how long what has ended is kept, as `30d`; `forever` deletes nothing.
    """

    def __init__(
        self,
        uri: str,
        pool_enabled: bool = True,
        pool_size: int = 5,
        max_overflow: int = 10,
        command_timeout: float = 30.0,
        condition_time_limit: float = 10.0,
        condition_memory_limit: int = 512,
        condition_tries: int = 3,
        condition_hosts: int = 4,
        python: str = sys.executable,
        ha: bool = False,
        ha_ttl: float = 10.0,
        heartbeat_timeout: float | None = None,
        heartbeat_interval: float = 0.0,
        heartbeat_check_interval: float = 0.0,
        history_retention: str = FOREVER,
    ) -> None:
        self._limits = Limits.checked(
            time_limit=condition_time_limit,
            memory_limit=condition_memory_limit,
            tries=condition_tries,
            hosts=condition_hosts,
        )
        self._store = Store(
            uri, pool_enabled=pool_enabled, pool_size=pool_size, max_overflow=max_overflow
        )
        self._command_timeout = command_timeout
        self._python = python
        self._ha = ha
        self._ha_ttl = ha_ttl
        self._heartbeats = Heartbeats(
            timeout=ha_ttl if heartbeat_timeout is None else heartbeat_timeout,
            interval=heartbeat_interval,
            check_interval=heartbeat_check_interval,
        )
        self._keep_ms = retention_ms(history_retention)
        self._running: Running | None = None
        self._log_dir: Path | None = None
        self._redriving = threading.Lock()
        self._explainer = Explainer(self._store)

    @classmethod
    def simulation(cls, now_ms: int) -> Simulation:
        # Late: it evaluates the conditions of an author in his own process, a server never does.
        from aiflow_scheduler_event.simulation import EngineSimulation

        return EngineSimulation(now_ms)

    # --- life ----------------------------------------------------------------------------------

    def initialize(self, revision: str = "head") -> None:
        """Make the tables, or bring them up to a revision."""
        self._store.initialize(revision)

    def downgrade(self, revision: str) -> None:
        """Take the tables back to a revision; `base` removes them."""
        self._store.downgrade(revision)

    def revision(self) -> str | None:
        """The revision of the tables; None when there are none."""
        return self._store.revision()

    def sql(self, *revisions: str) -> str:
        """The SQL that would take the tables to each of the revisions, one after the other."""
        return self._store.sql(*revisions)

    def check(self, init_command: str = "aiflow db init") -> None:
        """Raise `ConfigError` unless the tables are up to date."""
        self._store.check(init_command)

    def usage(self) -> list[TableUsage]:
        """How much the tables take."""
        return self._store.usage()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        events: EventStore,
        executor: Executor,
        blobs: BlobManager,
    ) -> None:
        stack.callback(self.close)
        self.check()
        if isinstance(events, SharesDatabase) and same_database(events.uri, self._store.uri):
            self._store.log = events
        running = Running(
            *(self._store, deployment, events, executor),
            server=name_of(deployment.home),
            worker=worker_of(deployment.home),
            ha=self._ha,
            ha_ttl=self._ha_ttl,
            heartbeats=self._heartbeats,
        )
        hosts = ConditionHosts(
            blobs,
            deployment.home,
            self._python,
            self._limits,
            running.reporter.append,
        )
        running.hosts = hosts
        stack.callback(hosts.close)
        running.start_thread(stack, "scheduler-reporter", running.reporter)
        executor.start(
            *(stack, deployment, blobs, running.report),
            running.claim if self._ha else alone,
        )
        running.membership.join()
        running.start_thread(stack, "scheduler-membership", running.membership)
        running.start_thread(stack, "scheduler-timers", running.timers)
        if running.membership.epoch is None:
            log.info("Another server schedules; this one stands by")
            running.resume_own()
        running.start_thread(stack, "scheduler", running.loop)
        if "figures_taken" in deployment.hooks.heard:
            running.start_thread(stack, "scheduler-figures", running.figures)
        if self._keep_ms is not None:
            retention = Retention(
                History(self._store.engine, self._store.uri),
                running.membership,
                events,
                executor,
                blobs,
                deployment.clock,
                deployment.log_dir,
                self._keep_ms,
            )
            running.start_thread(stack, "scheduler-retention", retention)
        if running.membership.epoch is not None:
            try:
                running.loop.opened.result(_LOG_WAIT)
            except TimeoutError:
                log.warning("Waiting for the event log; nothing is decided until it answers")
        self._log_dir = deployment.log_dir
        self._running = running
        self._explainer = Explainer(self._store, events, executor, deployment.clock)
        stack.callback(self._stopped)

    def _stopped(self) -> None:
        self._running = None
        self._explainer = Explainer(self._store)

    # --- commands ------------------------------------------------------------------------------

    def _do(self, command: Command, type: type[T], check: Check = _anything_goes) -> T:
        """Append the command, wait for its effect, and return it as a value of `type`."""
        return from_plain(self._carry_out(command, check).result, type)

    def _carry_out(self, command: Command, check: Check = _anything_goes) -> Reply:
        """Append the command and wait for its effect. `check` raises what speaks against it in the
        database; the engine knows nothing of what is finished."""
        running = self._running
        if running is None:
            raise UnavailableError("The scheduler is not running.")
        request_id = current_request_id()
        try:
            check()
        except AIFlowError:
            # When the request is a repeated one, that may be its own effect.
            if self._store.reply(request_id) is None:
                raise
        waiter = running.loop.expect(request_id)
        try:
            stored = running.events.append(
                [
                    Event(
                        key="command",
                        value=encode(command).decode(),
                        type=EventType.COMMAND,
                        id=request_id,
                    )
                ]
            )
            running.loop.inbox.offer(stored)
            reply = self._answer(running, request_id, waiter)
        finally:
            running.loop.forget(request_id, waiter)
        if reply.error is not None:
            raise AIFlowError.from_wire(reply.error)
        return reply

    def _answer(self, running: Running, request_id: str, waiter: "Future[Reply]") -> Reply:
        """The answer to a command. One that was carried out before, or that another server carries
        out, is in the database only."""
        waited, pause = 0.0, _FIRST_LOOK
        while True:
            if reply := self._store.reply(request_id):
                return reply
            if running.membership.epoch is not None:
                pause = _LAST_LOOK
            pause = min(pause, self._command_timeout - waited)
            if pause <= 0:
                raise WaitTimeoutError(
                    f"The scheduler has taken note of the request but did not get to it within "
                    f"{self._command_timeout:g} s.",
                    next_step="It will be carried out; look at the result with the list commands.",
                )
            try:
                return waiter.result(pause)
            except TimeoutError:
                waited, pause = waited + pause, min(2 * pause, _LAST_LOOK)

    # --- workflows -----------------------------------------------------------------------------

    def submit_workflow(
        self, definition: WorkflowDefinition, bundle: BundleRef | None = None
    ) -> WorkflowInfo:
        check_definition(definition)
        return self._do(SubmitWorkflow(definition, bundle), WorkflowInfo)

    def get_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowInfo:
        return self._store.workflow(namespace, workflow_name)

    def list_workflows(
        self, namespace: str = DEFAULT_NAMESPACE, limit: int | None = None, offset: int = 0
    ) -> list[WorkflowInfo]:
        return self._store.workflows(namespace, limit, offset)

    def delete_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._carry_out(DeleteWorkflow(workflow_name, namespace))

    def disable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._carry_out(EnableWorkflow(workflow_name, namespace, False))

    def enable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._carry_out(EnableWorkflow(workflow_name, namespace, True))

    # --- executions ----------------------------------------------------------------------------

    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution:
        return self._do(StartExecution(workflow_name, namespace), WorkflowExecution)

    def stop_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        return self._do(
            StopExecution(workflow_execution_id),
            WorkflowExecution,
            check=lambda: self._must_run(workflow_execution_id),
        )

    def stop_workflow_executions(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> list[WorkflowExecution]:
        return self._do(StopExecutions(workflow_name, namespace), list[WorkflowExecution])

    def delete_workflow_execution(self, workflow_execution_id: int) -> None:
        self._carry_out(
            DeleteExecution(workflow_execution_id),
            check=lambda: self.get_workflow_execution(workflow_execution_id),
        )

    def get_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        return self._store.one(WorkflowExecution, "workflow execution", workflow_execution_id)

    def list_workflow_executions(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowExecution]:
        return self._of(WorkflowExecution, workflow_name, namespace, limit, offset)

    # --- tasks ---------------------------------------------------------------------------------

    def start_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        return self._act(workflow_execution_id, task_name, TaskAction.START)

    def stop_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        return self._act(workflow_execution_id, task_name, TaskAction.STOP)

    def restart_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        return self._act(workflow_execution_id, task_name, TaskAction.RESTART)

    def _act(self, execution_id: int, task_name: str, action: TaskAction) -> TaskExecution:
        return self._do(
            ActOnTask(execution_id, task_name, action),
            TaskExecution,
            check=lambda: self._must_run(execution_id),
        )

    def get_task_execution(self, task_execution_id: int) -> TaskExecution:
        return self._store.one(TaskExecution, "task execution", task_execution_id)

    def list_task_executions(
        self, workflow_execution_id: int, limit: int | None = None, offset: int = 0
    ) -> list[TaskExecution]:
        self.get_workflow_execution(workflow_execution_id)
        return self._store.of(
            TaskExecution, "workflow_execution_id", workflow_execution_id, limit, offset
        )

    # --- namespaces ----------------------------------------------------------------------------

    def add_namespace(self, name: str, properties: dict[str, Any] | None = None) -> Namespace:
        return self._do(PutNamespace(name, properties or {}, False), Namespace)

    def get_namespace(self, name: str) -> Namespace:
        return self._store.namespace(name)

    def update_namespace(self, name: str, properties: dict[str, Any]) -> Namespace:
        return self._do(PutNamespace(name, properties, True), Namespace)

    def list_namespaces(self, limit: int | None = None, offset: int = 0) -> list[Namespace]:
        return self._store.namespaces(limit, offset)

    def delete_namespace(self, name: str) -> None:
        self._carry_out(DeleteNamespace(name))

    # --- schedules -----------------------------------------------------------------------------

    def add_workflow_schedule(
        self,
        expression: str,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        options: ScheduleOptions = ScheduleOptions(),  # noqa: B008  (frozen)
    ) -> WorkflowSchedule:
        check_schedule(expression, options)
        command = AddSchedule(workflow_name, namespace, expression, options)
        return self._do(command, WorkflowSchedule)

    def get_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        return self._store.one(WorkflowSchedule, "workflow schedule", schedule_id)

    def list_workflow_schedules(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSchedule]:
        return self._of(WorkflowSchedule, workflow_name, namespace, limit, offset)

    def delete_workflow_schedule(self, schedule_id: int) -> None:
        self._carry_out(
            DeleteSchedules((schedule_id,)), check=lambda: self.get_workflow_schedule(schedule_id)
        )

    def delete_workflow_schedules(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        found = self.list_workflow_schedules(workflow_name, namespace)
        self._carry_out(DeleteSchedules(tuple(s.id for s in found)))

    def pause_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        return self._do(PauseSchedule(schedule_id, True), WorkflowSchedule)

    def resume_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        return self._do(PauseSchedule(schedule_id, False), WorkflowSchedule)

    # --- triggers ------------------------------------------------------------------------------

    def add_workflow_trigger(
        self, rule: AnyCondition, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowTrigger:
        return self._do(AddTrigger(workflow_name, namespace, rule), WorkflowTrigger)

    def get_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        return self._store.one(WorkflowTrigger, "workflow trigger", trigger_id)

    def list_workflow_triggers(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowTrigger]:
        return self._of(WorkflowTrigger, workflow_name, namespace, limit, offset)

    def delete_workflow_trigger(self, trigger_id: int) -> None:
        self._carry_out(
            DeleteTriggers((trigger_id,)), check=lambda: self.get_workflow_trigger(trigger_id)
        )

    def delete_workflow_triggers(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        found = self.list_workflow_triggers(workflow_name, namespace)
        self._carry_out(DeleteTriggers(tuple(t.id for t in found)))

    def pause_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        return self._do(PauseTrigger(trigger_id, True), WorkflowTrigger)

    def resume_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        return self._do(PauseTrigger(trigger_id, False), WorkflowTrigger)

    # --- snapshots -----------------------------------------------------------------------------

    def get_workflow_snapshot(self, snapshot_id: int) -> WorkflowSnapshot:
        return self._store.one(WorkflowSnapshot, "workflow snapshot", snapshot_id)

    def list_workflow_snapshots(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSnapshot]:
        return self._of(WorkflowSnapshot, workflow_name, namespace, limit, offset)

    def delete_workflow_snapshot(self, snapshot_id: int) -> None:
        self._carry_out(
            DeleteSnapshots((snapshot_id,), strict=True),
            check=lambda: self.get_workflow_snapshot(snapshot_id),
        )

    def delete_workflow_snapshots(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        found = self.list_workflow_snapshots(workflow_name, namespace)
        self._carry_out(DeleteSnapshots(tuple(s.id for s in found), strict=False))

    # --- what tasks leave and write -------------------------------------------------------------

    def get_state(self, workflow_execution_id: int, name: str) -> str | None:
        self.get_workflow_execution(workflow_execution_id)
        return self._store.execution_state(workflow_execution_id, name)

    def put_state(self, workflow_execution_id: int, name: str, value: str | None) -> None:
        check_state_name(name)
        self._carry_out(
            PutState(workflow_execution_id, name, value),
            check=lambda: self._must_run(workflow_execution_id),
        )

    def read_task_log(
        self, task_execution_id: int, try_number: int | None = None, position: int = 0
    ) -> LogPage:
        task = self.get_task_execution(task_execution_id)
        execution = self.get_workflow_execution(task.workflow_execution_id)
        workflow = self._store.one(WorkflowInfo, "workflow", execution.workflow_id)
        if self._log_dir is None:
            raise UnavailableError("The scheduler is not running.")
        attempt = replace(task.attempt, try_number=try_number or task.try_number)
        page = read_page(log_file(self._log_dir, workflow.workflow_name, attempt), position)
        if page is None:
            raise NotFoundError(
                f"log of attempt {attempt.try_number} of task execution",
                task_execution_id,
                next_step="It has not begun, or its log is on another machine or was deleted.",
            )
        return page

    # --- dead letters --------------------------------------------------------------------------

    def list_dead_letters(self, limit: int | None = None, offset: int = 0) -> list[DeadLetter]:
        return [_as_seen(letter) for letter in self._store.dead_letters(limit, offset)]

    def get_dead_letter(self, event_offset: int) -> list[DeadLetter]:
        letters = self._store.dead_letters_of(event_offset)
        return [_as_seen(letter, self._event_of(letter)) for letter in letters]

    def redrive_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        # Who has looked first redrives first, and the other one finds nothing any more.
        with self._redriving:
            self._once(
                lambda: self._store.dead_letters_of(event_offset, consumer),
                self._redrive_command,
            )

    def redrive_dead_letters(self) -> int:
        return sum(map(self._is_redriven, self._store.dead_letters()))

    def _is_redriven(self, letter: KeptLetter) -> bool:
        with request(derived_event_id(current_request_id(), letter.offset, letter.consumer)):
            try:
                self.redrive_dead_letter(letter.offset, letter.consumer)
            except (ConflictError, NotFoundError, UsageError) as error:
                log.info("Dead letter %d stays: %s", letter.offset, error)
                return False
        return True

    def drop_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        self._once(
            lambda: self._store.dead_letters_of(event_offset, consumer),
            lambda letters: DropDeadLetters(tuple(letter.key for letter in letters)),
        )

    def drop_dead_letters(self) -> int:
        keys = [letter.key for letter in self._store.dead_letters()]
        request_id = current_request_id()
        for first in range(0, len(keys), _DROPPED_AT_ONCE):
            some = tuple(keys[first : first + _DROPPED_AT_ONCE])
            with request(derived_event_id(request_id, some[0].offset, some[0].consumer)):
                self._carry_out(DropDeadLetters(some))
        return len(keys)

    def _once(
        self,
        find: Callable[[], list[KeptLetter]],
        command: Callable[[list[KeptLetter]], Command],
    ) -> None:
        """Carry out a command about letters that `find` looks for; when it is carried out already,
        they are not there any more, and that is as it should be."""
        request_id = current_request_id()
        done = self._store.reply(request_id)
        if done is None:
            with request(request_id):
                self._carry_out(command(find()))
        elif done.error is not None:
            raise AIFlowError.from_wire(done.error)

    def _redrive_command(self, letters: list[KeptLetter]) -> Command:
        command = RedriveDeadLetters(tuple(map(self._redriven, letters)))
        size = len(encode(command))
        if size > MAX_EVENT_BYTES:
            raise UsageError(
                f"To redrive event {letters[0].offset} takes a request of {size} bytes, at most "
                f"{MAX_EVENT_BYTES} are allowed.",
                next_step="Redrive the letters of its consumers one by one, or send it again.",
            )
        return command

    def _redriven(self, letter: KeptLetter) -> Redriven:
        """The letter with what is needed to take up its event again."""
        if letter.evaluation is not None:
            return Redriven(letter.key, evaluation=letter.evaluation)
        event = self._event_of(letter)
        if event is None:
            raise ConflictError(
                f"Dead letter {letter.offset}, {letter.consumer} has nothing to be taken up again: "
                "it is of an earlier version, or the log has forgotten the event.",
                next_step="Drop the letter, and send the event again.",
            )
        return Redriven(letter.key, event=event)

    def _event_of(self, letter: KeptLetter) -> Event | None:
        if letter.evaluation is not None:
            return letter.evaluation.event
        if letter.consumer != CONSUMER or self._running is None:
            return None
        found = self._running.events.read(letter.offset - 1, until=letter.offset, limit=1)
        return found[0] if found else None

    # --- explanations --------------------------------------------------------------------------

    def explain_task_execution(self, task_execution_id: int) -> TaskExplanation:
        return self._explainer.task_execution(task_execution_id)

    def explain_task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        return self._explainer.task(workflow_execution_id, task_name)

    def explain_workflow(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExplanation:
        return self._explainer.workflow(workflow_name, namespace)

    def explain_event(self, event_offset: int) -> EventExplanation:
        if self._running is None:
            raise UnavailableError("The scheduler is not running.")
        try:
            letters = self.get_dead_letter(event_offset)
        except NotFoundError:
            letters = []
        return Tracer(self._store, self._running.events).event(event_offset, letters)

    # --- look-ups ------------------------------------------------------------------------------

    def _of(
        self, cls: type[V], name: str, namespace: str, limit: int | None, offset: int
    ) -> list[V]:
        workflow = self._store.workflow(namespace, name)
        return self._store.of(cls, "workflow_id", workflow.id, limit, offset)

    def _must_run(self, execution_id: int) -> None:
        execution = self.get_workflow_execution(execution_id)
        if execution.status in WORKFLOW_FINISHED:
            raise ConflictError(
                f"Workflow execution {execution_id} has ended with {execution.status}."
            )


def _as_seen(letter: KeptLetter, event: Event | None = None) -> DeadLetter:
    """The letter as others see it."""
    return DeadLetter(
        letter.offset, letter.consumer, letter.error, letter.create_time, letter.tries, event
    )
