"""Task executions."""

from aiflow_core.model.execution import AttemptKey as TaskExecutionKey
from aiflow_core.model.execution import TaskExecution

__all__ = ["TaskExecution", "TaskExecutionKey"]
