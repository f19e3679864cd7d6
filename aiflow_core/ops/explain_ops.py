"""Why something ran, why not yet, and what an event led to."""

from aiflow_core.model.explanation import (
    EventExplanation,
    TaskExplanation,
    WorkflowExplanation,
)
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def explain_task_execution(task_execution_id: int) -> TaskExplanation:
    """Why this execution of a task was started, what became of it, and what it waits for."""
    with server() as client:
        return client.explain_task_execution(task_execution_id)


def explain_task(workflow_execution_id: int, task_name: str) -> TaskExplanation:
    """Why a task ran in a workflow execution, or what each of its rules still waits for."""
    with server() as client:
        return client.explain_task(workflow_execution_id, task_name)


def explain_workflow(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowExplanation:
    """What would start the next execution of a workflow, and what keeps it from that."""
    with server() as client:
        return client.explain_workflow(workflow_name, namespace)


def explain_event(event_offset: int) -> EventExplanation:
    """What the event at this offset led to, or why it led to nothing."""
    with server() as client:
        return client.explain_event(event_offset)
