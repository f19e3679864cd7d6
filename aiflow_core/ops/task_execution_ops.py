"""Operations on task executions."""

from aiflow_core.model.execution import LogPage, TaskExecution
from aiflow_core.ops.client import server


def start_task_execution(workflow_execution_id: int, task_name: str) -> str:
    """Start a task and return the key of its execution, `<execution>_<task>_<sequence number>`.

    When the task runs already, nothing happens, and the key is that of the running one.
    """
    with server() as client:
        started = client.start_task_execution(workflow_execution_id, task_name)
    return str(started.key)


def stop_task_execution(workflow_execution_id: int, task_name: str) -> None:
    """Stop a task; a conflict when it does not run."""
    with server() as client:
        client.stop_task_execution(workflow_execution_id, task_name)


def get_task_execution(task_execution_id: int) -> TaskExecution:
    """The task execution of this id."""
    with server() as client:
        return client.get_task_execution(task_execution_id)


def list_task_executions(
    workflow_execution_id: int, limit: int | None = None, offset: int | None = None
) -> list[TaskExecution]:
    """All task executions of a workflow execution, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_task_executions(workflow_execution_id, limit, offset or 0)


def read_task_log(
    task_execution_id: int, try_number: int | None = None, position: int = 0
) -> LogPage:
    """A piece of the log of an attempt (None: of the latest) from a position on, in bytes.

    It is empty where nothing more has been written yet.
    """
    with server() as client:
        return client.read_task_log(task_execution_id, try_number, position)
