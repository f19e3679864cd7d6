"""Task executions as they are kept."""

from aiflow_core.model.execution import TaskExecution as TaskExecutionMeta

__all__ = ["TaskExecutionMeta"]
