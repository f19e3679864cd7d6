"""Workflow schedules as they are kept."""

from aiflow_core.model.execution import WorkflowSchedule as WorkflowScheduleMeta

__all__ = ["WorkflowScheduleMeta"]
