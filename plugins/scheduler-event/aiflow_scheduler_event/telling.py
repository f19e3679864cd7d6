"""What observers are told of a step, in the order in which it happened."""

from collections import deque
from typing import Any

from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_scheduler_event.decider import Step


def tell(hooks: Any, step: Step, begun_ms: int, decided_ms: int) -> None:
    """Tell of each event, of what was decided on it, and of what changed by it."""
    decisions, told = deque(step.changes.decisions), deque(step.changes.told)
    for event in step.events:
        hooks.event_appended(event=event, begun_ms=begun_ms, decided_ms=decided_ms)
        while decisions and decisions[0].offset <= event.offset:
            hooks.decision_made(decision=decisions.popleft())
        while told and told[0][0] <= event.offset:
            _tell_change(hooks, *told.popleft())


def _tell_change(hooks: Any, offset: int, value: Any) -> None:
    match value:
        case TaskExecution():
            hooks.task_execution_changed(task_execution=value, offset=offset)
        case WorkflowExecution():
            hooks.workflow_execution_changed(execution=value, offset=offset)
        case _:
            hooks.workflow_submitted(workflow=value, offset=offset)
