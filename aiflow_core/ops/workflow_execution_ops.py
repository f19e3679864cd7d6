"""Operations on workflow executions."""

from aiflow_core.model.execution import WorkflowExecution
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def start_workflow_execution(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> int:
    """Start an execution and return its id; a conflict when the workflow is disabled."""
    with server() as client:
        return client.start_workflow_execution(workflow_name, namespace).id


def stop_workflow_execution(workflow_execution_id: int) -> None:
    """Stop all tasks of an execution; it is STOPPED when the last is gone."""
    with server() as client:
        client.stop_workflow_execution(workflow_execution_id)


def stop_workflow_executions(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Stop all running executions of a workflow."""
    with server() as client:
        client.stop_workflow_executions(workflow_name, namespace)


def delete_workflow_execution(workflow_execution_id: int) -> None:
    """Delete a finished execution; a conflict while it runs."""
    with server() as client:
        client.delete_workflow_execution(workflow_execution_id)


def get_workflow_execution(workflow_execution_id: int) -> WorkflowExecution:
    """The execution of this id."""
    with server() as client:
        return client.get_workflow_execution(workflow_execution_id)


def list_workflow_executions(
    workflow_name: str,
    namespace: str = DEFAULT_NAMESPACE,
    limit: int | None = None,
    offset: int | None = None,
) -> list[WorkflowExecution]:
    """All executions of a workflow, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_workflow_executions(workflow_name, namespace, limit, offset or 0)
