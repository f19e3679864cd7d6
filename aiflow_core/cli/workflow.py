"""The commands `aiflow workflow ...`."""

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import confirm, namespace_option, paging_options, yes_option
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.simulate import simulate

COLUMNS = (
    *("id", "workflow_name", "namespace", "create_time", "update_time", "is_enabled"),
    "event_offset",
)
DETAILS = (*COLUMNS, "content", "config", "tasks", "rules")

name_argument = click.argument("workflow_name", help="The name of the workflow.")


@click.group(cls=Group)
def workflow() -> None:
    """Workflow related operations."""


workflow.add_command(simulate)


@workflow.command(
    examples=[
        "aiflow workflow upload quickstart.py",
        "aiflow workflow upload quickstart.py --files words.txt,data",
    ]
)
@click.argument("file_path", help="The path of the workflow file.", type=click.Path())
@click.option(
    *("-f", "--files"),
    default="",
    metavar="PATH,...",
    help="Files and directories to upload along with the workflow.",
)
def upload(file_path: str, files: str) -> None:
    """Uploads the workflows of a file to the server, and enables them."""
    from aiflow_core import ops

    artifacts = [path.strip() for path in files.split(",") if path.strip()]
    for uploaded in ops.upload_workflows(file_path, artifacts):
        click.echo(f"Workflow: {uploaded.namespace}.{uploaded.workflow_name}, submitted.")


@workflow.command(
    "list",
    examples=[
        "aiflow workflow list",
        "aiflow workflow list --namespace default --limit 20 --fields workflow_name,is_enabled",
    ],
)
@namespace_option
@paging_options
@output_option
def list_workflows(namespace: str, limit: int | None, offset: int, output: Output) -> None:
    """Lists all workflows of a namespace."""
    from aiflow_core import ops

    show(ops.list_workflows(namespace, limit, offset), COLUMNS, output)


@workflow.command(
    "show",
    examples=[
        "aiflow workflow show quickstart",
        "aiflow workflow show quickstart --output json --fields tasks,rules",
    ],
)
@name_argument
@namespace_option
@output_option
def show_workflow(workflow_name: str, namespace: str, output: Output) -> None:
    """Shows the details of a workflow, as it was uploaded last."""
    from aiflow_core import ops
    from aiflow_core.model.serialization import to_plain

    info = ops.get_workflow(workflow_name, namespace)
    snapshot = ops.list_workflow_snapshots(workflow_name, namespace)[-1]
    definition = snapshot.definition
    details = {column: getattr(info, column) for column in COLUMNS} | {
        "content": snapshot.uri,
        "config": definition.config,
        "tasks": [task.name for task in definition.tasks],
        "rules": {task.name: to_plain(task.rules) for task in definition.tasks if task.rules},
    }
    show([details], DETAILS, output)


@workflow.command(
    examples=[
        "aiflow workflow delete quickstart --yes",
        "aiflow workflow delete inside --namespace lab -y",
    ]
)
@name_argument
@namespace_option
@yes_option
def delete(workflow_name: str, namespace: str, yes: bool) -> None:
    """Deletes a workflow with its executions, schedules, triggers and snapshots."""
    from aiflow_core import ops

    confirm(f"Delete workflow {namespace}.{workflow_name} and all its executions?", yes)
    ops.delete_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} deleted.")


@workflow.command(
    examples=[
        "aiflow workflow enable quickstart",
        "aiflow workflow enable inside --namespace lab",
    ]
)
@name_argument
@namespace_option
def enable(workflow_name: str, namespace: str) -> None:
    """Enables a workflow that was disabled before."""
    from aiflow_core import ops

    ops.enable_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} enabled.")


@workflow.command(
    examples=[
        "aiflow workflow disable quickstart",
        "aiflow workflow disable inside --namespace lab",
    ]
)
@name_argument
@namespace_option
def disable(workflow_name: str, namespace: str) -> None:
    """Disables a workflow so that no more executions start; running ones go on."""
    from aiflow_core import ops

    ops.disable_workflow(workflow_name, namespace)
    click.echo(f"Workflow: {namespace}.{workflow_name} disabled.")
