"""What a running task can ask about itself."""

from aiflow_core.model.execution import RunningTask
from aiflow_core.specs.operator import TaskContext


def get_runtime_task_context() -> TaskContext | None:
    """The task that this process belongs to, None outside of a task."""
    task = RunningTask.from_environment()
    if task is None:
        return None
    return TaskContext(key=task.key, namespace=task.namespace, workflow_name=task.workflow_name)


__all__ = ["get_runtime_task_context"]
