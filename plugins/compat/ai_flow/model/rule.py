"""Rules."""

from dataclasses import dataclass
from typing import Any

from aiflow_core.model.context import Context
from aiflow_core.model.event import Event
from aiflow_core.model.rule import TaskAction, WorkflowRule


@dataclass(frozen=True)
class TaskRule:
    """When `condition` is met, carry out `action` on a task."""

    condition: Any
    action: TaskAction

    def trigger(self, event: Event, context: Context) -> TaskAction | None:
        """What to do on this event, None: nothing."""
        return self.action if self.condition.is_met(event, context) else None


__all__ = ["TaskRule", "WorkflowRule"]
