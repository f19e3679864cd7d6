"""Operations on workflows."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aiflow_core.app import App
from aiflow_core.bundle import publish
from aiflow_core.model.execution import WorkflowInfo
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def upload_workflows(
    workflow_file_path: str | Path, artifacts: Sequence[str | Path] | None = None
) -> list[WorkflowInfo]:
    """Submit all workflows at the top level of a file, and enable them.

    The file is executed here, once. It is stored together with the artifacts (files and
    directories, which tasks find beside it), and runs again where its tasks run.

    Raises `DefinitionError` when the file cannot be executed, defines no workflow, or a workflow in
    it is wrong, and `Veto` when an observer refuses; nothing is submitted then.
    """
    app = App.configured()
    with ExitStack() as stack:
        hooks = app.hooks(stack)
        definitions, bundle = publish(
            workflow_file_path, artifacts or (), app.blob_manager(), hooks
        )
        client = stack.enter_context(server())
        uploaded = [client.submit_workflow(definition, bundle) for definition in definitions]
        hooks.after_upload(workflow_file=Path(workflow_file_path), workflows=tuple(uploaded))
        return uploaded


def get_workflow(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowInfo:
    """The workflow of this name."""
    with server() as client:
        return client.get_workflow(workflow_name, namespace)


def list_workflows(
    namespace: str = DEFAULT_NAMESPACE, limit: int | None = None, offset: int | None = None
) -> list[WorkflowInfo]:
    """All workflows of a namespace, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_workflows(namespace, limit, offset or 0)


def delete_workflow(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Delete a workflow and all that is recorded of it; a conflict while an execution runs."""
    with server() as client:
        client.delete_workflow(workflow_name, namespace)


def disable_workflow(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Let no more executions start; running ones go on."""
    with server() as client:
        client.disable_workflow(workflow_name, namespace)


def enable_workflow(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Let executions start again."""
    with server() as client:
        client.enable_workflow(workflow_name, namespace)
