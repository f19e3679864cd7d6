"""Operations on workflow executions."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import workflow_execution_ops
from aiflow_core.ops.workflow_execution_ops import (
    delete_workflow_execution,
    list_workflow_executions,
    start_workflow_execution,
    stop_workflow_execution,
    stop_workflow_executions,
)

get_workflow_execution = none_if_absent(workflow_execution_ops.get_workflow_execution)

__all__ = [
    "delete_workflow_execution",
    "get_workflow_execution",
    "list_workflow_executions",
    "start_workflow_execution",
    "stop_workflow_execution",
    "stop_workflow_executions",
]
