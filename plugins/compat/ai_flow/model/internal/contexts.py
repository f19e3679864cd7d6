"""What a running task can ask about itself."""

from aiflow_core.current import current_context
from aiflow_core.model.execution import RunningTask
from aiflow_core.specs.operator import TaskContext


def get_runtime_task_context() -> TaskContext | None:
    """The task that this process belongs to, None outside of a task."""
    return None if RunningTask.from_environment() is None else current_context()


__all__ = ["get_runtime_task_context"]
