"""Operations on task executions."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import task_execution_ops
from aiflow_core.ops.task_execution_ops import (
    list_task_executions,
    start_task_execution,
    stop_task_execution,
)

get_task_execution = none_if_absent(task_execution_ops.get_task_execution)

__all__ = [
    "get_task_execution",
    "list_task_executions",
    "start_task_execution",
    "stop_task_execution",
]
