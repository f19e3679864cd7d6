"""Workflow executions."""

from aiflow_core.model.execution import WorkflowExecution

__all__ = ["WorkflowExecution"]
