"""The conditions that ship with AIFlow."""

from collections.abc import Iterable

from aiflow_core.model import condition
from aiflow_core.model.condition import MeetAllCondition, MeetAnyCondition, SingleEventCondition
from aiflow_core.model.condition import WorkflowTaskStatusCondition as TaskStatusCondition


def TaskStatusAllMetCondition(
    condition_list: Iterable[TaskStatusCondition],
) -> condition.TaskStatusCondition:
    """Met when the latest executions of all these tasks have these statuses."""
    return condition.TaskStatusCondition(
        statuses={one.task_name: one.expect_status for one in condition_list}
    )


__all__ = [
    "MeetAllCondition",
    "MeetAnyCondition",
    "SingleEventCondition",
    "TaskStatusAllMetCondition",
    "TaskStatusCondition",
]
