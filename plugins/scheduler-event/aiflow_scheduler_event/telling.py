"""What observers are told of a step, in the order in which it happened."""

from collections import deque
from typing import Any

from aiflow_core.model.decision import Decision
from aiflow_core.model.execution import TaskExecution, WorkflowExecution, WorkflowInfo
from aiflow_scheduler_event.decider import Step


def tell(hooks: Any, step: Step, begun_ms: int, decided_ms: int) -> None:
    """Tell of each event, and of what was decided and what changed because of it."""
    told = deque(step.changes.told)
    for event in step.events:
        hooks.event_appended(event=event, begun_ms=begun_ms, decided_ms=decided_ms)
        while told and told[0][0] <= event.offset:
            _tell_one(hooks, *told.popleft())


def _tell_one(hooks: Any, offset: int, value: Any) -> None:
    match value:
        case TaskExecution():
            hooks.task_execution_changed(task_execution=value, offset=offset)
        case WorkflowExecution():
            hooks.workflow_execution_changed(execution=value, offset=offset)
        case WorkflowInfo():
            hooks.workflow_submitted(workflow=value, offset=offset)
        case Decision():
            hooks.decision_made(decision=value, offset=offset)
