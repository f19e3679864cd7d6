"""Workflow snapshots as they are kept."""

from aiflow_core.model.execution import WorkflowSnapshot as WorkflowSnapshotMeta

__all__ = ["WorkflowSnapshotMeta"]
