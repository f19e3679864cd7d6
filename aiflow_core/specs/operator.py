"""Operator: a task that can be executed."""

import contextvars
import functools
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aiflow_core.errors import UsageError
from aiflow_core.model.context import (
    Context,
    ValueState,
    ValueStateDescriptor,
    check_state_name,
    pack,
    unpack,
)
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, TaskExecutionKey
from aiflow_core.model.parameters import fill, mentions_event
from aiflow_core.model.serialization import is_plain
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import Task, TaskConfig, Workflow

if TYPE_CHECKING:
    from aiflow_core.specs.scheduler import Scheduler, StateOperations

ENTRY_POINT_GROUP = "aiflow.operator"


@contextmanager
def _no_server() -> "Iterator[Scheduler]":
    raise UsageError("This task was not started by AIFlow, and has no server to ask.")
    yield


@dataclass(frozen=True, kw_only=True)
class TaskContext(Context):
    """What a running task knows about itself, and can ask about its surroundings.

    Attributes:
        events: those that started the task, in the order in which they came.
        server: the AIFlow server, which is asked for states and statuses. Its errors pass through.
    """

    key: AttemptKey
    namespace: str
    workflow_name: str
    workflow: Workflow | None = None
    events: tuple[Event, ...] = ()
    server: "Callable[[], AbstractContextManager[Scheduler]]" = _no_server

    @property
    def task_execution_key(self) -> TaskExecutionKey:
        return self.key.task_execution

    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState:
        """The state of that name of the workflow execution, which the task shares with the other
        tasks and with the conditions of its rules. What is left in it is durable at once; of two
        who change it at the same time, the later one wins."""
        return _ServerState(self, state_descriptor.name)

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        """Status of the latest execution of a task of the workflow execution, None when it has
        none."""
        with self.server() as scheduler:
            tasks = scheduler.list_task_executions(self.key.workflow_execution_id)
        latest = [task.status for task in tasks if task.task_name == task_name]
        return latest[-1] if latest else None


class _ServerState(ValueState):
    """A state that the server keeps."""

    def __init__(self, context: TaskContext, name: str) -> None:
        check_state_name(name)
        self._context = context
        self._execution_id = context.key.workflow_execution_id
        self._name = name

    def value(self) -> Any:
        with self._states() as states:
            return unpack(states.get_state(self._execution_id, self._name))

    def update(self, state: Any) -> None:
        with self._states() as states:
            states.put_state(self._execution_id, self._name, pack(state))

    def clear(self) -> None:
        self.update(None)

    @contextmanager
    def _states(self) -> "Iterator[StateOperations]":
        # Late: the processes of tasks start faster without, and few tasks ask.
        from aiflow_core.specs.scheduler import StateOperations, offers

        contract = StateOperations
        with self._context.server() as scheduler:
            # mypy wants a class that can be constructed; a contract is just what is asked for.
            yield offers(scheduler, contract)  # type: ignore[type-abstract]


class AttemptStopped(BaseException):
    """Raised in the main thread of a task's process when the task is asked to stop.

    Not an `Exception`: a task's own `except Exception` must not swallow it.
    """


class Operator(Task, ABC):
    """Base of all operators.

    A subclass takes `name` first and passes it to `super().__init__` with the keywords it does not
    know itself: these are the options of `TaskConfig`. Its other constructor arguments are its
    parameters. Where they are plain data and the class is registered as an entry point of the group
    `aiflow.operator`, the task runs from the definition alone; otherwise the task's process loads
    the workflow file and finds the task there by its name. In parameters that are texts, alone or
    in lists and dicts, `${event.value.day}` stands for a field of the event that started the task.

    The methods are called in the process of one attempt, in this order: `start`,
    `await_termination`. They return normally on success; what they raise is the reason of the
    failure. When the task is asked to stop, whatever runs is interrupted by `AttemptStopped`, and
    then `stop` is called.
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Kept as they are: the process of a task makes all operators of its file again and asks
        # none of them for its parameters.
        self = super().__new__(cls)
        self._given = (args, kwargs)
        return self

    def __init__(self, name: str, **config: Any) -> None:
        super().__init__(name, **config)
        self.log = logging.getLogger("aiflow.task.operator")

    @abstractmethod
    def start(self, context: TaskContext) -> None:
        """Do the work, or start it."""

    def stop(self, context: TaskContext) -> None:
        """Undo what `start` began elsewhere: cancel a job, end a child process."""

    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        """Wait until what `start` began has ended; raise when it failed."""

    def get_metrics(self, context: TaskContext) -> dict[str, Any]:
        """Figures of what `start` began, by name; none unless a subclass has some."""
        return {}

    def filled(self, events: tuple[Event, ...]) -> Self:
        """This operator, with fields of the event that started the task in its parameters.

        Where they mention none it is this one, else it is made anew.
        """
        if not mentions_event(self._given):
            return self
        # Not in the workflow whose `with` block is perhaps being executed.
        return contextvars.Context().run(self._made_anew, *fill(self._given, events))

    def _made_anew(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self:
        with Workflow(self.workflow.name, self.workflow.namespace):
            made = type(self)(*args, **kwargs)
        made.config, made.workflow = self.config, self.workflow
        return made

    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        name = registered_name(type(self))
        params = self._parameters() if name else {}
        return name, params if name and is_plain(params) else None

    def _parameters(self) -> dict[str, Any]:
        """The constructor's arguments by name, without the task's name and its options."""
        args, kwargs = self._given
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        arguments = dict(bound.arguments)
        for parameter in bound.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(parameter.name, {}))
        _, _, *own = arguments  # the instance, then the name
        return {key: arguments[key] for key in own if key not in TaskConfig.__struct_fields__}


@functools.cache
def registered_name(cls: type[Operator]) -> str:
    """The entry-point name of an operator class, empty when it is not registered.

    Nothing is imported but what is loaded already: the class's own distribution.
    """
    # Late: the processes of tasks start faster without, and never ask.
    from importlib.metadata import entry_points

    package = cls.__module__.partition(".")[0]
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.value == f"{cls.__module__}:{cls.__qualname__}":
            return entry.name
        if entry.module.partition(".")[0] == package and entry.load() is cls:
            return entry.name
    return ""
