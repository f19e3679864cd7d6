"""Statuses, and the one table of which may follow which."""

from enum import StrEnum

from aiflow_core.errors import ConflictError


class WorkflowStatus(StrEnum):
    """Where a workflow execution stands."""

    INIT = "INIT"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class TaskStatus(StrEnum):
    """Where a task execution stands."""

    INIT = "INIT"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    RETRYING = "RETRYING"


class ExecutionType(StrEnum):
    """Why an execution was started: by hand, by an event, or by a clock."""

    MANUAL = "MANUAL"
    EVENT = "EVENT"
    PERIODIC = "PERIODIC"


WORKFLOW_FINISHED = frozenset(
    {WorkflowStatus.SUCCESS, WorkflowStatus.FAILED, WorkflowStatus.STOPPED}
)
TASK_FINISHED = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.STOPPED})
TASK_ALIVE = frozenset(TaskStatus) - TASK_FINISHED

# QUEUED may be followed by a final status directly: an attempt can end before its RUNNING report
# is read, or fail to start at all. RETRYING -> QUEUED is the next attempt of the same execution.
_NEXT: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.INIT: frozenset({TaskStatus.QUEUED, TaskStatus.STOPPED}),
    TaskStatus.QUEUED: frozenset(TaskStatus) - {TaskStatus.INIT, TaskStatus.QUEUED},
    TaskStatus.RUNNING: frozenset(TaskStatus)
    - {TaskStatus.INIT, TaskStatus.QUEUED, TaskStatus.RUNNING},
    TaskStatus.STOPPING: TASK_FINISHED | {TaskStatus.RETRYING},
    TaskStatus.RETRYING: frozenset({TaskStatus.QUEUED, TaskStatus.STOPPED}),
    TaskStatus.SUCCESS: frozenset(),
    TaskStatus.FAILED: frozenset(),
    TaskStatus.STOPPED: frozenset(),
}


def may_follow(before: TaskStatus, after: TaskStatus) -> bool:
    """Whether a task execution may go from `before` to `after`."""
    return after in _NEXT[before]


def check_follows(before: TaskStatus, after: TaskStatus) -> None:
    """Raise `ConflictError` unless `after` may follow `before`."""
    if not may_follow(before, after):
        raise ConflictError(f"A task execution cannot go from {before} to {after}.")
