"""Operator: a task that can be executed."""

import functools
import inspect
import logging
from abc import ABC, abstractmethod
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Self

from aiflow_core.errors import UsageError
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, RunningTask
from aiflow_core.model.parameters import fill, mentions_event
from aiflow_core.model.serialization import is_plain
from aiflow_core.model.workflow import Task, TaskConfig, Workflow

ENTRY_POINT_GROUP = "aiflow.operator"


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a running task knows about itself.

    Attributes:
        events: those that started the task, in the order in which they came.
    """

    key: AttemptKey
    namespace: str
    workflow_name: str
    workflow: Workflow | None = None
    events: tuple[Event, ...] = ()

    @property
    def task_execution_key(self) -> AttemptKey:
        return self.key


def current_context() -> TaskContext:
    """The context of the task to which this process belongs, also in programs that it started.

    `UsageError` outside of a task.
    """
    task = RunningTask.from_environment()
    if task is None:
        raise UsageError(
            "This process belongs to no task.",
            next_step="Call current_context() in a task that AIFlow runs.",
        )
    return TaskContext(
        key=task.key,
        namespace=task.namespace,
        workflow_name=task.workflow_name,
        events=task.read_events(),
    )


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

    def filled(self, events: tuple[Event, ...]) -> Self:
        """This operator, with fields of the event that started the task in its parameters.

        Where they mention none it is this one, else it is made anew.
        """
        if not mentions_event(self._given):
            return self
        # Not in the workflow whose `with` block is perhaps being executed.
        return Context().run(self._made_anew, *fill(self._given, events))

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
