"""Operations on workflow triggers."""

from aiflow_core.model.condition import as_data
from aiflow_core.model.execution import WorkflowTrigger
from aiflow_core.model.rule import WorkflowRule
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def add_workflow_trigger(
    rule: WorkflowRule, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
) -> WorkflowTrigger:
    """Start an execution whenever the rule's condition is met.

    A condition of your own travels as code, and is evaluated where tasks run.
    """
    with server() as client:
        return client.add_workflow_trigger(as_data(rule.condition), workflow_name, namespace)


def get_workflow_trigger(trigger_id: int) -> WorkflowTrigger:
    """The trigger of this id."""
    with server() as client:
        return client.get_workflow_trigger(trigger_id)


def list_workflow_triggers(
    workflow_name: str,
    namespace: str = DEFAULT_NAMESPACE,
    limit: int | None = None,
    offset: int | None = None,
) -> list[WorkflowTrigger]:
    """All triggers of a workflow, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_workflow_triggers(workflow_name, namespace, limit, offset or 0)


def delete_workflow_trigger(trigger_id: int) -> None:
    """Delete a trigger."""
    with server() as client:
        client.delete_workflow_trigger(trigger_id)


def delete_workflow_triggers(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Delete all triggers of a workflow."""
    with server() as client:
        client.delete_workflow_triggers(workflow_name, namespace)


def pause_workflow_trigger(trigger_id: int) -> WorkflowTrigger:
    """Let a trigger start no executions."""
    with server() as client:
        return client.pause_workflow_trigger(trigger_id)


def resume_workflow_trigger(trigger_id: int) -> WorkflowTrigger:
    """Let a trigger start executions again, from now on."""
    with server() as client:
        return client.resume_workflow_trigger(trigger_id)
