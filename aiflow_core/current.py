"""The task to which a process belongs, and what it asks of its surroundings."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from aiflow_core.errors import UsageError
from aiflow_core.model.execution import RunningTask
from aiflow_core.specs.operator import TaskContext

if TYPE_CHECKING:
    from aiflow_core.specs.scheduler import Scheduler


def current_context() -> TaskContext:
    """The context of the task to which this process belongs, also in programs that it started.

    `UsageError` outside of a task.
    """
    task = RunningTask.from_environment()
    if task is None:
        raise UsageError(
            "This process belongs to no task.",
            next_step="Call current_context() in a task that AIFlow runs.",
        )
    return TaskContext(
        key=task.key,
        namespace=task.namespace,
        workflow_name=task.workflow_name,
        events=task.read_events(),
        server=server,
    )


def server() -> "AbstractContextManager[Scheduler]":
    """The AIFlow server of the task, see `aiflow_core.remote.server`."""
    # Late: few tasks ask, and this needs plugins.
    from aiflow_core import remote

    return remote.server()
