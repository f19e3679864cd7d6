"""What `aiflow run` runs: workflows in an embedded deployment, watched until they are over."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aiflow_core.app import App
from aiflow_core.bundle import publish
from aiflow_core.cli.waiting import check_success
from aiflow_core.errors import (
    ConflictError,
    ExecutionFailedError,
    NotFoundError,
    WaitTimeoutError,
    did_you_mean,
)
from aiflow_core.hookspecs import hook
from aiflow_core.model.event import Event, EventFilter, EventType, key_matches
from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_core.model.status import WORKFLOW_FINISHED, WorkflowStatus
from aiflow_core.specs.event_store import Subscription
from aiflow_core.specs.scheduler import NamespaceOperations, offers

Change = TaskExecution | WorkflowExecution | Event

_STOP_WAIT = 30.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """When to stop before the workflows end by themselves: after `period` seconds, when an event
    with a key comes, or when a task takes a status."""

    period: float | None = None
    event_key: str | None = None
    task_status: tuple[str, str] | None = None

    def is_reached(self, change: Change) -> bool:
        """Whether this change is what was waited for."""
        match change:
            case Event(key=key):
                return self.event_key is not None and key_matches(self.event_key, key)
            case TaskExecution(task_name=name, status=status):
                return self.task_status == (name, status)
            case _:
                return False

    def __str__(self) -> str:
        if self.event_key is not None:
            return f"event {self.event_key!r}"
        assert self.task_status is not None
        return f"{self.task_status[0]}={self.task_status[1]}"

    @property
    def is_awaited(self) -> bool:
        return self.event_key is not None or self.task_status is not None


class Session:
    """Workflows that run in a deployment of their own.

    Attributes:
        workflows: names by workflow id.
        executions, tasks: as last heard of, by their ids.
    """

    def __init__(self, app: App, stack: ExitStack, goal: Goal) -> None:
        self.goal = goal
        self.workflows: dict[int, str] = {}
        self.executions: dict[int, WorkflowExecution] = {}
        self.tasks: dict[int, TaskExecution] = {}
        self._reached = False
        self._cut_short: set[int] = set()
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._clock = app.clock
        self._began = self._clock.monotonic()
        self._embedded = app.embedded(stack)
        self.log_dir: Path = self._embedded.deployment.log_dir
        self._hooks = self._embedded.deployment.hooks
        self._hooks.register(self, "aiflow-run", bounded=False)
        # On the stack after the store, and so closed before it.
        events = self._embedded.events
        subscription = events.subscribe(events.head(), EventFilter(types=(EventType.USER,)))
        stack.enter_context(subscription)
        threading.Thread(target=self._hear, args=(subscription,), daemon=True).start()

    # --- observing -----------------------------------------------------------------------------

    @hook
    def task_execution_changed(self, task_execution: TaskExecution) -> None:
        self._changes.put(task_execution)

    @hook
    def workflow_execution_changed(self, execution: WorkflowExecution) -> None:
        self._changes.put(execution)

    def _hear(self, subscription: Subscription) -> None:
        for events in subscription:
            for event in events:
                self._changes.put(event)

    def changes(self, timeout: float) -> Iterator[Change]:
        """What has changed since, waiting at most `timeout` seconds for the first of it."""
        try:
            change = self._changes.get(timeout=timeout)
            while True:
                if self._is_ours(change):
                    self._note(change)
                    yield change
                change = self._changes.get_nowait()
        except queue.Empty:
            return

    def _is_ours(self, change: Change) -> bool:
        """Not of an execution that an earlier run, which was killed, has left behind."""
        match change:
            case TaskExecution():
                return change.workflow_execution_id in self.executions
            case WorkflowExecution():
                return change.id in self.executions
            case _:
                return True

    def _note(self, change: Change) -> None:
        match change:
            case TaskExecution():
                self.tasks[change.id] = change
            case WorkflowExecution():
                self.executions[change.id] = change
        self._reached = self._reached or self.goal.is_reached(change)

    # --- running -------------------------------------------------------------------------------

    def start(
        self, file: Path, files: Sequence[str], namespace: str | None, only: str | None
    ) -> None:
        """Upload the file and start an execution of each of its workflows, or `only` of one."""
        definitions, bundle = publish(file, files, self._embedded.blobs, self._hooks)
        if only is not None:
            names = [d.name for d in definitions]
            definitions = [d for d in definitions if d.name == only]
            if not definitions:
                raise NotFoundError("workflow", only, next_step=did_you_mean(only, names))
        self._stop_leftovers()
        scheduler = self._embedded.scheduler
        uploaded = []
        for definition in definitions:
            if namespace is not None:
                definition = msgspec.structs.replace(definition, namespace=namespace)
            self._ensure_namespace(definition.namespace)
            workflow = scheduler.submit_workflow(definition, bundle)
            self.workflows[workflow.id] = workflow.workflow_name
            uploaded.append(workflow)
        self._hooks.after_upload(workflow_file=file, workflows=tuple(uploaded))
        self._began = self._clock.monotonic()
        for definition in definitions:
            execution = scheduler.start_workflow_execution(
                definition.name, namespace or definition.namespace
            )
            self.executions.setdefault(execution.id, execution)

    def _stop_leftovers(self) -> None:
        """What an earlier run could not stop, because it was killed, does not go on in this one."""
        scheduler = self._embedded.scheduler
        for namespace in self._namespaces().list_namespaces():
            for workflow in scheduler.list_workflows(namespace.name):
                scheduler.stop_workflow_executions(workflow.workflow_name, namespace.name)

    def _ensure_namespace(self, name: str) -> None:
        try:
            self._namespaces().get_namespace(name)
        except NotFoundError:
            self._namespaces().add_namespace(name)

    def _namespaces(self) -> NamespaceOperations:
        # mypy wants a class that can be constructed; a contract is just what is asked for.
        contract = NamespaceOperations
        return offers(self._embedded.scheduler, contract)  # type: ignore[type-abstract]

    @property
    def elapsed(self) -> float:
        """Seconds since the first execution was started."""
        return self._clock.monotonic() - self._began

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self._clock.now_ms()

    @property
    def time_is_up(self) -> bool:
        return self.goal.period is not None and self.elapsed >= self.goal.period

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._reached or self.time_is_up or not self._running()

    def stop(self, tell: Callable[[Change], None]) -> None:
        """Stop what still runs, and wait until it is gone."""
        running = self._running()
        scheduler = self._embedded.scheduler
        self._cut_short = {execution.id for execution in running}
        for execution_id in self._cut_short:
            with suppress(ConflictError):  # it has ended by itself meanwhile
                scheduler.stop_workflow_execution(execution_id)
        deadline = self._clock.monotonic() + _STOP_WAIT
        while self._running() and self._clock.monotonic() < deadline:
            for change in self.changes(0.1):
                tell(change)
        self._embedded.executor.stop_all()

    def judge(self) -> None:
        """Raise what the exit code is to say, nothing when all went well."""
        for execution in self.executions.values():
            if execution.status is WorkflowStatus.FAILED or (
                execution.status is WorkflowStatus.STOPPED and execution.id not in self._cut_short
            ):
                name = self.workflows.get(execution.workflow_id, "?")
                check_success(
                    f"Workflow execution {execution.id} of {name!r}",
                    execution.status,
                    execution.reason,
                )
        if self.goal.is_awaited and not self._reached:
            if self.time_is_up:
                raise WaitTimeoutError(
                    f"{self.goal} did not come within {self.goal.period:g} s.".capitalize()
                )
            raise ExecutionFailedError(f"The workflow ended before {self.goal} came.")

    def _running(self) -> list[WorkflowExecution]:
        return [e for e in self.executions.values() if e.status not in WORKFLOW_FINISHED]
