"""Operations on workflow snapshots: the uploads of a workflow."""

from aiflow_core.model.execution import WorkflowSnapshot
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def get_workflow_snapshot(snapshot_id: int) -> WorkflowSnapshot:
    """The snapshot of this id."""
    with server() as client:
        return client.get_workflow_snapshot(snapshot_id)


def list_workflow_snapshots(
    workflow_name: str,
    namespace: str = DEFAULT_NAMESPACE,
    limit: int | None = None,
    offset: int | None = None,
) -> list[WorkflowSnapshot]:
    """All snapshots of a workflow, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_workflow_snapshots(workflow_name, namespace, limit, offset or 0)


def delete_workflow_snapshot(snapshot_id: int) -> None:
    """Delete a snapshot; a conflict while it is the current one or an execution runs on it."""
    with server() as client:
        client.delete_workflow_snapshot(snapshot_id)


def delete_workflow_snapshots(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Delete all snapshots of a workflow that can be deleted."""
    with server() as client:
        client.delete_workflow_snapshots(workflow_name, namespace)
