"""Task executions as workflow authors see them; what `ops` returns is in `ai_flow.metadata`."""

from dataclasses import dataclass
from datetime import datetime

from aiflow_core.model.execution import TaskExecutionKey
from aiflow_core.model.status import ExecutionType, TaskStatus


@dataclass
class TaskExecution:
    """One run of a task: the `sequence_number`-th of its workflow execution."""

    workflow_execution_id: int
    task_name: str
    sequence_number: int
    execution_type: ExecutionType
    begin_date: datetime | None = None
    end_date: datetime | None = None
    status: TaskStatus = TaskStatus.INIT
    id: int | None = None


__all__ = ["TaskExecution", "TaskExecutionKey"]
