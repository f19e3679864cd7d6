"""Operations on workflows."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import workflow_ops
from aiflow_core.ops.workflow_ops import (
    delete_workflow,
    disable_workflow,
    enable_workflow,
    list_workflows,
    upload_workflows,
)

get_workflow = none_if_absent(workflow_ops.get_workflow)

__all__ = [
    "delete_workflow",
    "disable_workflow",
    "enable_workflow",
    "get_workflow",
    "list_workflows",
    "upload_workflows",
]
