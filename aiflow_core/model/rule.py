"""Rules: when a condition is met, an action is carried out."""

from enum import StrEnum
from typing import Any

import msgspec

from aiflow_core.errors import UsageError
from aiflow_core.model.algebra import Pattern
from aiflow_core.model.condition import AnyCondition, CustomCondition
from aiflow_core.model.context import Context
from aiflow_core.model.event import Event
from aiflow_core.model.serialization import Value


class TaskAction(StrEnum):
    """What a rule does to its task."""

    START = "START"
    STOP = "STOP"
    RESTART = "RESTART"


class TaskRule(Value, frozen=True):
    """When `condition` is met, carry out `action` on the task that the rule belongs to."""

    action: TaskAction
    condition: AnyCondition

    def trigger(self, event: Event, context: Context) -> TaskAction | None:
        """What to do on this event, None: nothing. `UsageError` for a condition that is code or a
        pattern of events, which are evaluated elsewhere."""
        return self.action if _is_met(self.condition, event, context) else None


class WorkflowRule(msgspec.Struct, frozen=True):
    """When `condition` (data or a user's `Condition`) is met, start an execution."""

    condition: Any

    def trigger(self, event: Event, context: Context) -> bool:
        """Whether to start an execution on this event. `UsageError` for a pattern of events, which
        is evaluated elsewhere."""
        return _is_met(self.condition, event, context)


def _is_met(condition: Any, event: Event, context: Context) -> bool:
    if isinstance(condition, CustomCondition):
        raise UsageError("A condition that is code is only evaluated by the server.")
    if isinstance(condition, Pattern):
        # It needs what its automaton has seen, and the time.
        raise UsageError("A pattern of events is only evaluated by the server.")
    return bool(condition.is_met(event, context))
