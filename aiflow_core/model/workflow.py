"""Workflows: as an author writes them (`Workflow`, `Task`) and as they travel (`*Definition`).

`with Workflow(name=...) as w:` collects the tasks that are created inside the block; the current
workflow is a context variable, so threads and nested imports do not see each other's.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

from aiflow_core.errors import DefinitionError, UsageError, did_you_mean
from aiflow_core.model.algebra import Pattern, check_pattern
from aiflow_core.model.condition import SingleEventCondition, TaskStatusCondition, as_data
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.serialization import Value, from_plain
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.timing import check_expression

DEFAULT_NAMESPACE = "default"

MAX_RETRIES = 1000
MAX_BACKOFF = 100
MAX_SECONDS = 366 * 24 * 3600
"""The longest time-out, and the longest delay before a retry, however often the backoff grew it."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

_current: ContextVar["Workflow | None"] = ContextVar("current_workflow", default=None)


class TaskConfig(Value, frozen=True):
    """What every task can be told, whatever its operator.

    Attributes:
        periodic_expression: run again and again by the clock, see `aiflow_core.model.timing`.
        retries: how many further attempts follow a failed one.
        retry_delay: seconds before the first retry.
        retry_backoff: factor by which the delay grows with each further retry.
        timeout: seconds that one attempt may run; longer is a failure.
        isolation: `forked` (a warm process of its own) or `fresh` (a new interpreter).
    """

    periodic_expression: str | None = None
    retries: int = 0
    retry_delay: float = 0.0
    retry_backoff: float = 1.0
    timeout: float | None = None
    isolation: str = "forked"


class TaskDefinition(Value, frozen=True):
    """A task as data.

    Attributes:
        operator: entry-point name of the operator; empty when its class stands in the bundle.
        params: the operator's constructor keywords; None when they hold code, so that the task is
            looked up by name in the bundle's workflow.
        rules: first to last; per event the first whose condition is met acts.
    """

    name: str
    operator: str = ""
    params: dict[str, Any] | None = None
    rules: tuple[TaskRule, ...] = ()
    config: TaskConfig = TaskConfig()

    @property
    def starts_by_itself(self) -> bool:
        """Whether the task starts with the execution: it has no rule that says when."""
        return not any(rule.action is TaskAction.START for rule in self.rules)


class WorkflowDefinition(Value, frozen=True):
    """A workflow as data: what is uploaded, stored and scheduled."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    tasks: tuple[TaskDefinition, ...] = ()
    config: dict[str, Any] = {}


class Task:
    """A node of a workflow, with the rules that say when it acts."""

    def __init__(self, name: str, **config: Any) -> None:
        check_name("task", name)
        workflow = Workflow.current()
        if workflow is None:
            raise DefinitionError(
                f"Task {name!r} is created outside of a workflow.",
                next_step="Create it inside `with Workflow(name=...) as workflow:`.",
            )
        self.name = name
        self.config = check_config(name, config)
        self.workflow = workflow
        workflow.add(self)

    def start_after(self, tasks: "Task | Iterable[Task]") -> None:
        """Start when the latest executions of all these tasks are SUCCESS."""
        upstream = [tasks] if isinstance(tasks, Task) else list(tasks)
        self.action_on_task_status(TaskAction.START, dict.fromkeys(upstream, TaskStatus.SUCCESS))

    def action_on_task_status(
        self, action: TaskAction, upstream_task_status_dict: dict["Task", TaskStatus]
    ) -> None:
        """Act when the latest executions of all these tasks have these statuses."""
        if not upstream_task_status_dict:
            raise DefinitionError(f"A status rule of task {self.name!r} names no task.")
        statuses = {t.name: TaskStatus(s) for t, s in upstream_task_status_dict.items()}
        self.action_on_condition(action, TaskStatusCondition(statuses=statuses))

    def action_on_event_received(self, action: TaskAction, event_key: str) -> None:
        """Act whenever an event with this key is received (`*` is a wildcard)."""
        self.action_on_condition(action, SingleEventCondition(event_key))

    def action_on_condition(self, action: TaskAction, condition: Any) -> None:
        """Act when the condition, built in or a `Condition` of your own, is met."""
        self.workflow.rules.setdefault(self.name, []).append((TaskAction(action), condition))

    def definition(self) -> TaskDefinition:
        """This task as data."""
        operator, params = self.operator_and_params()
        rules = tuple(
            TaskRule(action=action, condition=as_data(condition, place=f"{self.name}/{number}"))
            for number, (action, condition) in enumerate(self.workflow.rules.get(self.name, []))
        )
        return TaskDefinition(
            name=self.name, operator=operator, params=params, rules=rules, config=self.config
        )

    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        """Entry-point name and constructor keywords; ("", None): only the bundle knows."""
        return "", None


class Workflow:
    """Tasks and the rules between them. Tasks created inside its `with` block belong to it."""

    def __init__(self, name: str, namespace: str = DEFAULT_NAMESPACE, **config: Any) -> None:
        check_name("workflow", name)
        check_name("namespace", namespace)
        self.name = name
        self.namespace = namespace
        self.config = config
        self.tasks: dict[str, Task] = {}
        self.rules: dict[str, list[tuple[TaskAction, Any]]] = {}
        self._token: Token[Workflow | None] | None = None

    @staticmethod
    def current() -> "Workflow | None":
        """The workflow whose `with` block is being executed."""
        return _current.get()

    def __enter__(self) -> Self:
        if Workflow.current() is not None:
            raise DefinitionError("Sub-workflows are not allowed to be defined in a Workflow.")
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _current.reset(self._token)

    def add(self, task: Task) -> None:
        """Take in a task; done by the task itself."""
        if task.name in self.tasks:
            raise DefinitionError(
                f"Workflow {self.name!r} has two tasks called {task.name!r}.",
                next_step="Give one of them another name.",
            )
        self.tasks[task.name] = task

    def action_on_condition(self, task_name: str, action: TaskAction, condition: Any) -> None:
        """`Task.action_on_condition` for the task of that name."""
        self._task(task_name).action_on_condition(action, condition)

    def action_on_event_received(self, task_name: str, event_key: str, action: TaskAction) -> None:
        """`Task.action_on_event_received` for the task of that name."""
        self._task(task_name).action_on_event_received(action, event_key)

    def action_on_task_status(
        self,
        task_name: str,
        action: TaskAction,
        upstream_task_status_dict: dict[Task, TaskStatus],
    ) -> None:
        """`Task.action_on_task_status` for the task of that name."""
        self._task(task_name).action_on_task_status(action, upstream_task_status_dict)

    def definition(self) -> WorkflowDefinition:
        """This workflow as data, checked."""
        definition = WorkflowDefinition(
            name=self.name,
            namespace=self.namespace,
            tasks=tuple(task.definition() for task in self.tasks.values()),
            config=self.config,
        )
        check_definition(definition)
        return definition

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise DefinitionError(f"Workflow {self.name!r} has no task {name!r}.")
        return self.tasks[name]


def check_name(kind: str, name: str) -> None:
    """Names become parts of paths and keys: refuse what could not be one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is not a name for a {kind}.",
            next_step="Use letters, digits, '_', '-' and '.', at most 200, and begin with a "
            "letter, a digit or '_'.",
        )


def check_config(task_name: str, config: dict[str, Any]) -> TaskConfig:
    """The task's configuration from the keywords an author wrote."""
    if not config:
        return TaskConfig()
    known = list(TaskConfig.__struct_fields__)
    for key in config:
        if key not in known:
            raise DefinitionError(
                f"Task {task_name!r} has an unknown option {key!r}.",
                next_step=did_you_mean(key, known),
            )
    try:
        checked = from_plain(config, TaskConfig)
    except UsageError as error:
        raise DefinitionError(
            f"The options of task {task_name!r} are wrong: {error.what}"
        ) from error
    _check_limits(task_name, checked)
    return checked


def _check_limits(task_name: str, checked: TaskConfig) -> None:
    if checked.isolation not in ("forked", "fresh"):
        raise DefinitionError(
            f"Task {task_name!r} has isolation {checked.isolation!r}.",
            next_step="It is 'forked' or 'fresh'.",
        )
    if not (
        0 <= checked.retries <= MAX_RETRIES
        and 0 <= checked.retry_delay <= MAX_SECONDS
        and 1 <= checked.retry_backoff <= MAX_BACKOFF
    ):
        raise DefinitionError(
            f"The retry options of task {task_name!r} are wrong.",
            next_step=f"retries is 0 to {MAX_RETRIES}, retry_delay 0 to {MAX_SECONDS} seconds, "
            f"retry_backoff 1 to {MAX_BACKOFF}.",
        )
    if checked.timeout is not None and not 0 < checked.timeout <= MAX_SECONDS:
        raise DefinitionError(
            f"The timeout of task {task_name!r} is not more than 0 and at most {MAX_SECONDS} "
            "seconds."
        )
    if checked.periodic_expression is not None:
        check_expression(checked.periodic_expression)


def check_definition(definition: WorkflowDefinition) -> None:
    """Refuse a workflow that could not do what it says: done before upload and on arrival."""
    check_name("workflow", definition.name)
    check_name("namespace", definition.namespace)
    names = [task.name for task in definition.tasks]
    if not names:
        raise DefinitionError(
            f"Workflow {definition.name!r} has no task.",
            next_step="Create operators inside its `with` block.",
        )
    for task in definition.tasks:
        check_name("task", task.name)
        if names.count(task.name) > 1:
            raise DefinitionError(
                f"Workflow {definition.name!r} has two tasks called {task.name!r}.",
                next_step="Give one of them another name.",
            )
        _check_limits(task.name, task.config)
        for rule in task.rules:
            if isinstance(rule.condition, Pattern):
                check_pattern(rule.condition)
        for upstream in _upstream(task):
            if upstream not in names:
                raise DefinitionError(
                    f"A rule of task {task.name!r} waits for {upstream!r}, which is not a task of "
                    f"workflow {definition.name!r}."
                )
    stuck = _never_startable(definition)
    if stuck:
        raise DefinitionError(
            f"These tasks of workflow {definition.name!r} wait for one another and can never "
            f"start: {', '.join(stuck)}.",
            next_step="Break the cycle: one of them needs to start by itself or by an event.",
        )


def _upstream(task: TaskDefinition) -> set[str]:
    return {
        name
        for rule in task.rules
        if isinstance(rule.condition, TaskStatusCondition)
        for name in rule.condition.statuses
    }


def _never_startable(definition: WorkflowDefinition) -> list[str]:
    """Names of the tasks that no sequence of events could start."""

    def can_start(task: TaskDefinition) -> bool:
        return task.starts_by_itself or any(
            not isinstance(rule.condition, TaskStatusCondition)
            # A task that never ran has no status at all, so each one must be able to start;
            # RUNNING and the like count as well as the final ones.
            or startable.issuperset(rule.condition.statuses)
            for rule in task.rules
            if rule.action is TaskAction.START
        )

    startable: set[str] = set()
    while True:
        found = {t.name for t in definition.tasks if t.name not in startable and can_start(t)}
        if not found:
            return [t.name for t in definition.tasks if t.name not in startable]
        startable |= found
