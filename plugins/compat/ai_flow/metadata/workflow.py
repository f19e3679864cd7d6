"""Workflows as they are kept."""

from aiflow_core.model.execution import WorkflowInfo as WorkflowMeta

__all__ = ["WorkflowMeta"]
