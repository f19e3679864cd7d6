"""Workflow executions as they are kept."""

from aiflow_core.model.execution import WorkflowExecution as WorkflowExecutionMeta

__all__ = ["WorkflowExecutionMeta"]
