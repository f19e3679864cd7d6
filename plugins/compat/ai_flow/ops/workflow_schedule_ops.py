"""Operations on workflow schedules."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import workflow_schedule_ops
from aiflow_core.ops.workflow_schedule_ops import (
    add_workflow_schedule,
    delete_workflow_schedule,
    delete_workflow_schedules,
    list_workflow_schedules,
    pause_workflow_schedule,
    resume_workflow_schedule,
)

get_workflow_schedule = none_if_absent(workflow_schedule_ops.get_workflow_schedule)

__all__ = [
    "add_workflow_schedule",
    "delete_workflow_schedule",
    "delete_workflow_schedules",
    "get_workflow_schedule",
    "list_workflow_schedules",
    "pause_workflow_schedule",
    "resume_workflow_schedule",
]
