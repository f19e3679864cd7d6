"""The commands `aiflow workflow ...`."""

import click

from aiflow_core.cli.output import confirm, namespace_option, output_option, show, yes_option

COLUMNS = (
    *("id", "workflow_name", "namespace", "create_time", "update_time", "is_enabled"),
    "event_offset",
)
DETAILS = (*COLUMNS, "content", "config", "tasks", "rules")


@click.group()
def workflow() -> None:
    """Workflow related operations."""


@workflow.command()
@click.argument("file_path", type=click.Path())
@click.option(
    *("-f", "--files"),
    default="",
    help="Comma separated paths of files and directories to upload along with the workflow.",
)
def upload(file_path: str, files: str) -> None:
    """Uploads the workflows of a file to the server, along with other files."""
    from aiflow_core import ops

    artifacts = [path.strip() for path in files.split(",") if path.strip()]
    for uploaded in ops.upload_workflows(file_path, artifacts):
        click.echo(f"Workflow: {uploaded.namespace}.{uploaded.workflow_name}, submitted.")


@workflow.command("list")
@namespace_option
@output_option
def list_workflows(namespace: str, output: str) -> None:
    """Lists all the workflows of a namespace."""
    from aiflow_core import ops

    show(ops.list_workflows(namespace), COLUMNS, output)


@workflow.command("show")
@click.argument("workflow_name")
@namespace_option
@output_option
def show_workflow(workflow_name: str, namespace: str, output: str) -> None:
    """Shows the details of a workflow."""
    from aiflow_core import ops
    from aiflow_core.model.serialization import to_plain

    info = ops.get_workflow(workflow_name, namespace)
    snapshot = ops.list_workflow_snapshots(workflow_name, namespace)[-1]
    definition = snapshot.definition
    details = {column: getattr(info, column) for column in COLUMNS} | {
        "content": snapshot.bundle.uri if snapshot.bundle else "",
        "config": definition.config,
        "tasks": [task.name for task in definition.tasks],
        "rules": {task.name: to_plain(task.rules) for task in definition.tasks if task.rules},
    }
    show([details], DETAILS, output)


@workflow.command()
@click.argument("workflow_name")
@namespace_option
@yes_option
def delete(workflow_name: str, namespace: str, yes: bool) -> None:
    """Deletes a workflow and all that is recorded of it."""
    from aiflow_core import ops

    confirm(f"Delete workflow {namespace}.{workflow_name} and all its executions?", yes)
    ops.delete_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} deleted.")


@workflow.command()
@click.argument("workflow_name")
@namespace_option
def enable(workflow_name: str, namespace: str) -> None:
    """Enables a workflow that was disabled before."""
    from aiflow_core import ops

    ops.enable_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} enabled.")


@workflow.command()
@click.argument("workflow_name")
@namespace_option
def disable(workflow_name: str, namespace: str) -> None:
    """Disables a workflow so that no more executions start; running ones go on."""
    from aiflow_core import ops

    ops.disable_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} disabled.")
