"""What a condition and a running task can ask about their surroundings."""

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from aiflow_core.model.status import TaskStatus


class ValueStateDescriptor(msgspec.Struct, frozen=True):
    """Names one state. The state belongs to the workflow execution (task rules) or the workflow
    (triggers); two conditions that use one name share it."""

    name: str


class ValueState:
    """One value that outlives a condition's evaluation."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def value(self) -> Any:
        """The value last given to `update`, None before that and after `clear`."""
        return self._value

    def update(self, value: Any) -> None:
        """Keep `value`. It becomes durable together with the outcome of the condition."""
        self._value = value

    def clear(self) -> None:
        """Forget the value."""
        self._value = None


class Context(ABC):
    """The surroundings of a condition that is being evaluated."""

    @abstractmethod
    def get_state(self, descriptor: ValueStateDescriptor) -> ValueState:
        """The state of that name; the same object each time during one evaluation."""

    @abstractmethod
    def get_task_status(self, task_name: str) -> TaskStatus | None:
        """Status of the task's latest execution, None when it has none."""
