"""The commands `aiflow workflow-snapshot ...`: the uploads of a workflow."""

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, confirm, namespace_option, paging_options, yes_option
from aiflow_core.cli.output import Output, output_option, show

COLUMNS = ("id", "workflow_id", "create_time", "uri", "signature")
DETAILS = (*COLUMNS, "definition")

id_argument = click.argument("workflow_snapshot_id", help="The id of the snapshot.", type=Id())
name_argument = click.argument("workflow_name", help="The name of the workflow.")


@click.group(cls=Group)
def workflow_snapshot() -> None:
    """Manages the snapshots of the workflow, one for each upload."""


@workflow_snapshot.command(
    "list",
    examples=[
        "aiflow workflow-snapshot list quickstart",
        "aiflow workflow-snapshot list quickstart --fields id,create_time",
    ],
)
@name_argument
@namespace_option
@paging_options
@output_option
def list_snapshots(
    workflow_name: str, namespace: str, limit: int | None, offset: int, output: Output
) -> None:
    """Lists all snapshots of a workflow; the last is the current one."""
    from aiflow_core import ops

    show(ops.list_workflow_snapshots(workflow_name, namespace, limit, offset), COLUMNS, output)


@workflow_snapshot.command(
    "show",
    examples=[
        "aiflow workflow-snapshot show 1",
        "aiflow workflow-snapshot show 1 --output json --fields definition",
    ],
)
@id_argument
@output_option
def show_snapshot(workflow_snapshot_id: int, output: Output) -> None:
    """Shows the details of a snapshot, with the definition of the workflow."""
    from aiflow_core import ops

    show([ops.get_workflow_snapshot(workflow_snapshot_id)], DETAILS, output)


@workflow_snapshot.command(
    examples=[
        "aiflow workflow-snapshot delete 1 --yes",
        "aiflow workflow-snapshot delete 2 -y",
    ]
)
@id_argument
@yes_option
def delete(workflow_snapshot_id: int, yes: bool) -> None:
    """Deletes a snapshot that is neither current nor executed."""
    from aiflow_core import ops

    confirm(f"Delete workflow snapshot {workflow_snapshot_id}?", yes)
    ops.delete_workflow_snapshot(workflow_snapshot_id)
    click.echo(f"Workflow snapshot: {workflow_snapshot_id} deleted.")


@workflow_snapshot.command(
    "delete-all",
    examples=[
        "aiflow workflow-snapshot delete-all quickstart --yes",
        "aiflow workflow-snapshot delete-all inside --namespace lab -y",
    ],
)
@name_argument
@namespace_option
@yes_option
def delete_all(workflow_name: str, namespace: str, yes: bool) -> None:
    """Deletes all snapshots of a workflow that are neither current nor executed."""
    from aiflow_core import ops

    confirm(f"Delete the old snapshots of workflow {namespace}.{workflow_name}?", yes)
    ops.delete_workflow_snapshots(workflow_name, namespace)
    click.echo(f"All old snapshots of workflow: {namespace}.{workflow_name} deleted.")
