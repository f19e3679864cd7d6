"""Workflow triggers as they are kept."""

from aiflow_core.model.execution import WorkflowTrigger as WorkflowEventTriggerMeta

__all__ = ["WorkflowEventTriggerMeta"]
