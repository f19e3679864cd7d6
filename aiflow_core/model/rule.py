"""Rules: when a condition is met, an action is carried out."""

from enum import StrEnum
from typing import Any

import msgspec

from aiflow_core.model.condition import AnyCondition
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


class WorkflowRule(msgspec.Struct, frozen=True):
    """When `condition` (data or a user's `Condition`) is met, start an execution."""

    condition: Any
