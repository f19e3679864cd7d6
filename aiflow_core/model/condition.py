"""Conditions: the test of a rule.

The conditions that ship here are data. The engine evaluates them itself through `is_met`, which is
a pure function of event and context. A `Condition` subclass that a user writes is code: it travels
as a `CustomCondition`, which says where to find it, and is evaluated in a condition host.
"""

from datetime import datetime
from typing import Any

import msgspec

from aiflow_core.errors import DefinitionError
from aiflow_core.model.algebra import Pattern
from aiflow_core.model.context import Context, ValueStateDescriptor
from aiflow_core.model.event import Event, hears
from aiflow_core.model.serialization import Value
from aiflow_core.model.status import TaskStatus


class Lack(Value, frozen=True):
    """Something that a condition still waits for.

    Attributes:
        text: what, as part of a sentence.
        event_keys: any event with one of these keys would do.
        task_name: the task whose status is waited for, which is to be `wanted` and is `found`
            (empty: it has not run).
        since: when the first of the events came that wait for this.
        before: until when it is to come, or these events are too old.
        until: when it comes by itself.
    """

    text: str
    event_keys: tuple[str, ...] = ()
    task_name: str = ""
    wanted: str = ""
    found: str = ""
    since: datetime | None = None
    before: datetime | None = None
    until: datetime | None = None


class Condition:
    """Base of the conditions that users write.

    Attributes:
        expect_event_keys: only an event with one of these keys (`*` is a wildcard) leads to an
            evaluation.
    """

    def __init__(self, expect_event_keys: list[str]) -> None:
        self.expect_event_keys = list(expect_event_keys)

    def is_met(self, event: Event, context: Context) -> bool:
        """Whether the action of the rule is to be carried out.

        Evaluated once per event, one event after the other, outside the server. What it leaves in
        `context.get_state(...)` becomes durable together with the outcome.
        """
        raise TypeError(f"{type(self).__name__} does not say when it is met: define is_met().")


class SingleEventCondition(Value, tag="event", frozen=True):
    """Met by every event with this key (`*` is a wildcard)."""

    expect_event_key: str

    @property
    def expect_event_keys(self) -> list[str]:
        return [self.expect_event_key]

    def is_met(self, event: Event, context: Context) -> bool:
        return hears(self.expect_event_key, event)

    def missing(self, context: Context) -> tuple[Lack, ...]:
        return (_an_event(self.expect_event_key),)


class TaskStatusCondition(Value, tag="task_status", frozen=True):
    """Met when the latest executions of all these tasks have these statuses.

    Evaluated when one of the tasks takes the status named here.
    """

    statuses: dict[str, TaskStatus]

    @property
    def expect_event_keys(self) -> list[str]:
        return []

    def is_met(self, event: Event, context: Context) -> bool:
        return all(context.get_task_status(t) == s for t, s in self.statuses.items())

    def missing(self, context: Context) -> tuple[Lack, ...]:
        found = {task: context.get_task_status(task) for task in self.statuses}
        return tuple(
            _a_status(task, wanted, found[task])
            for task, wanted in self.statuses.items()
            if found[task] != wanted
        )


class WorkflowTaskStatusCondition(Value, tag="workflow_task_status", frozen=True):
    """Met when a task of some execution of that workflow takes the status. Made for triggers."""

    workflow_name: str
    task_name: str
    namespace: str
    expect_status: TaskStatus

    @property
    def expect_event_keys(self) -> list[str]:
        return [task_status_key(self.workflow_name, self.task_name)]

    def is_met(self, event: Event, context: Context) -> bool:
        return event.namespace == self.namespace and event.value == self.expect_status

    def missing(self, context: Context) -> tuple[Lack, ...]:
        text = f"task {self.task_name!r} of workflow {self.workflow_name!r} {self.expect_status}"
        keys = tuple(self.expect_event_keys)
        return (Lack(text, keys, task_name=self.task_name, wanted=self.expect_status),)


class MeetAllCondition(Value, tag="all", frozen=True):
    """Met when each of the conditions has been met once; then it starts anew.

    Which of them have been met is kept in the state called `name`.
    """

    name: str
    conditions: tuple["DataCondition", ...]

    @property
    def expect_event_keys(self) -> list[str]:
        return [key for c in self.conditions for key in c.expect_event_keys]

    def is_met(self, event: Event, context: Context) -> bool:
        state = context.get_state(ValueStateDescriptor(name=self.name))
        met = set(state.value() or ())
        for index, condition in enumerate(self.conditions):
            if _concerns(condition, event) and condition.is_met(event, context):
                met.add(index)
        if len(met) == len(self.conditions):
            state.clear()
            return True
        state.update(sorted(met))
        return False

    def missing(self, context: Context) -> tuple[Lack, ...]:
        met = set(context.get_state(ValueStateDescriptor(name=self.name)).value() or ())
        return tuple(
            lack
            for index, condition in enumerate(self.conditions)
            if index not in met
            for lack in missing(condition, context)
        )


class MeetAnyCondition(Value, tag="any", frozen=True):
    """Met when one of the conditions is."""

    conditions: tuple["DataCondition", ...]

    @property
    def expect_event_keys(self) -> list[str]:
        return [key for c in self.conditions for key in c.expect_event_keys]

    def is_met(self, event: Event, context: Context) -> bool:
        return any(_concerns(c, event) and c.is_met(event, context) for c in self.conditions)

    def missing(self, context: Context) -> tuple[Lack, ...]:
        each = [missing(condition, context) for condition in self.conditions]
        text = " or ".join(" and ".join(lack.text for lack in lacks) for lacks in each)
        keys = tuple(dict.fromkeys(key for lacks in each for k in lacks for key in k.event_keys))
        return (Lack(text, keys),)


class CustomCondition(Value, tag="custom", frozen=True):
    """A user's condition, as data: which events concern it, and where its code is.

    Attributes:
        place: `<task>/<number of the rule>` in the workflow of the bundle; empty when `code` is.
        code: cloudpickle of the condition, base64, for a condition that stands in no file of the
            bundle (a trigger). Only a condition host ever loads it.
    """

    expect_event_keys: tuple[str, ...]
    place: str = ""
    code: str = ""

    def missing(self, context: Context) -> tuple[Lack, ...]:
        keys = " or ".join(map(repr, self.expect_event_keys))
        text = f"an event with key {keys} that your own condition accepts"
        return (Lack(text, self.expect_event_keys),)


DataCondition = (
    SingleEventCondition
    | TaskStatusCondition
    | WorkflowTaskStatusCondition
    | MeetAllCondition
    | MeetAnyCondition
)
"""The conditions that the engine evaluates itself, apart from those of the event algebra."""

AnyCondition = DataCondition | Pattern | CustomCondition
"""All conditions in the form in which they travel."""


def as_data(condition: Any, *, place: str = "") -> "AnyCondition":
    """The condition in the form in which it travels.

    A condition that is code becomes a `CustomCondition`: found at `place` in the bundle, or, where
    there is no place, carried along as code.
    """
    if isinstance(condition, msgspec.Struct) and not _holds_code(condition):
        return condition  # type: ignore[return-value]
    keys = tuple(condition.expect_event_keys)
    if place:
        return CustomCondition(expect_event_keys=keys, place=place)
    import base64

    import cloudpickle

    return CustomCondition(
        expect_event_keys=keys, code=base64.b64encode(cloudpickle.dumps(condition)).decode()
    )


def missing(condition: Any, context: Context) -> tuple[Lack, ...]:
    """What is needed for the condition to be met, as of now, given what has come already.

    Each kind of condition says so itself, in its method `missing`. Of one that does not, it is any
    event that it listens to.
    """
    if hasattr(condition, "missing"):
        found: tuple[Lack, ...] = condition.missing(context)
        return found
    return (_an_event(*condition.expect_event_keys),)


def task_status_key(workflow_name: str, task_name: str) -> str:
    """The key of the events that tell a task's status."""
    return f"task_status.{workflow_name}.{task_name}"


def workflow_status_key(workflow_name: str) -> str:
    """The key of the events that tell a workflow execution's status."""
    return f"workflow_status.{workflow_name}"


def _an_event(*keys: str) -> Lack:
    return Lack(f"an event with key {' or '.join(map(repr, keys))}", keys)


def _a_status(task_name: str, wanted: TaskStatus, found: TaskStatus | None) -> Lack:
    what = f"it is {found}" if found else "it has not run"
    return Lack(
        f"task {task_name!r} {wanted} ({what})",
        task_name=task_name,
        wanted=wanted,
        found=found or "",
    )


def _concerns(condition: Any, event: Event) -> bool:
    keys = condition.expect_event_keys
    return not keys or any(hears(key, event) for key in keys)


def _holds_code(condition: Any) -> bool:
    if isinstance(condition, MeetAllCondition | MeetAnyCondition):
        for part in condition.conditions:
            if isinstance(part, Pattern):
                raise DefinitionError(
                    f"{type(condition).__name__} holds {part}, which is of the event algebra.",
                    next_step="Use all_of(...) or any_of(...) around it.",
                )
        return any(_holds_code(c) for c in condition.conditions)
    return not isinstance(condition, msgspec.Struct)
