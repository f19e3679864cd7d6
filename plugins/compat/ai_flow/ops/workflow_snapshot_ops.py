"""Operations on workflow snapshots."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import workflow_snapshot_ops
from aiflow_core.ops.workflow_snapshot_ops import (
    delete_workflow_snapshot,
    delete_workflow_snapshots,
    list_workflow_snapshots,
)

get_workflow_snapshot = none_if_absent(workflow_snapshot_ops.get_workflow_snapshot)

__all__ = [
    "delete_workflow_snapshot",
    "delete_workflow_snapshots",
    "get_workflow_snapshot",
    "list_workflow_snapshots",
]
