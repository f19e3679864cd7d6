"""Statuses, and the sets of them."""

from aiflow_core.model.status import TASK_ALIVE as TASK_ALIVE_SET
from aiflow_core.model.status import TASK_FINISHED as TASK_FINISHED_SET
from aiflow_core.model.status import WORKFLOW_FINISHED as WORKFLOW_FINISHED_SET
from aiflow_core.model.status import TaskStatus, WorkflowStatus

WORKFLOW_ALIVE_SET = frozenset(WorkflowStatus) - WORKFLOW_FINISHED_SET

__all__ = [
    "TASK_ALIVE_SET",
    "TASK_FINISHED_SET",
    "WORKFLOW_ALIVE_SET",
    "WORKFLOW_FINISHED_SET",
    "TaskStatus",
    "WorkflowStatus",
]
