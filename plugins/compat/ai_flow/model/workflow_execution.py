"""Workflow executions as workflow authors see them; what `ops` returns is in `ai_flow.metadata`."""

from dataclasses import dataclass
from datetime import datetime

from aiflow_core.model.status import ExecutionType, WorkflowStatus


@dataclass
class WorkflowExecution:
    """One run of a workflow."""

    workflow_id: int
    execution_type: ExecutionType
    begin_date: datetime
    end_date: datetime
    status: WorkflowStatus
    id: int | None = None


__all__ = ["WorkflowExecution"]
