"""The commands `aiflow workflow-execution ...`."""

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import (
    Duration,
    Id,
    confirm,
    confirm_if_watched,
    namespace_option,
    paging_options,
    yes_option,
)
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.waiting import Patience, check_success, wait_for_workflow, wait_options

COLUMNS = (
    *("id", "workflow_id", "begin_date", "end_date", "status", "run_type", "snapshot_id"),
    *("event_offset", "reason"),
)

id_argument = click.argument(
    "workflow_execution_id", help="The id of the workflow execution.", type=Id()
)
name_argument = click.argument("workflow_name", help="The name of the workflow.")


@click.group(cls=Group)
def workflow_execution() -> None:
    """Workflow execution related operations."""


@workflow_execution.command(
    examples=[
        "aiflow workflow-execution start quickstart",
        "aiflow workflow-execution start quickstart --wait --timeout 5m",
    ]
)
@name_argument
@namespace_option
@wait_options
def start(workflow_name: str, namespace: str, patience: Patience) -> None:
    """Starts a new execution of a workflow.

    With --wait the exit code is 10 unless the execution ends in success.
    """
    from aiflow_core import ops

    execution_id = ops.start_workflow_execution(workflow_name, namespace)
    click.echo(f"Workflow execution: {execution_id} submitted.")
    if patience.is_wanted:
        ended = wait_for_workflow(execution_id, patience)
        check_success(f"Workflow execution {execution_id}", ended.status, ended.reason)
        click.echo(f"Workflow execution: {execution_id} ended with {ended.status}.")


@workflow_execution.command(
    examples=[
        "aiflow workflow-execution stop 1",
        "aiflow workflow-execution stop 2 --wait --timeout 1m",
    ]
)
@id_argument
@wait_options
def stop(workflow_execution_id: int, patience: Patience) -> None:
    """Stops a workflow execution with all its tasks."""
    from aiflow_core import ops

    ops.stop_workflow_execution(workflow_execution_id)
    click.echo(f"Stopping workflow execution: {workflow_execution_id}")
    if patience.is_wanted:
        ended = wait_for_workflow(workflow_execution_id, patience)
        click.echo(f"Workflow execution: {workflow_execution_id} ended with {ended.status}.")


@workflow_execution.command(
    "stop-all",
    examples=[
        "aiflow workflow-execution stop-all quickstart",
        "aiflow workflow-execution stop-all quickstart --yes --wait",
    ],
)
@name_argument
@namespace_option
@yes_option
@wait_options
def stop_all(workflow_name: str, namespace: str, yes: bool, patience: Patience) -> None:
    """Stops all running executions of a workflow."""
    from aiflow_core import ops
    from aiflow_core.model.status import WORKFLOW_FINISHED

    workflow = f"{namespace}.{workflow_name}"
    confirm_if_watched(f"Stop all executions of workflow {workflow}?", yes)
    ops.stop_workflow_executions(workflow_name, namespace)
    click.echo(f"Stopping all workflow executions of workflow: {workflow}")
    if patience.is_wanted:
        executions = ops.list_workflow_executions(workflow_name, namespace)
        for execution in executions:
            if execution.status not in WORKFLOW_FINISHED:
                wait_for_workflow(execution.id, patience)
        click.echo(f"All workflow executions of workflow: {workflow} ended.")


@workflow_execution.command(
    examples=[
        "aiflow workflow-execution delete 1 --yes",
        "aiflow workflow-execution delete 2 -y",
    ]
)
@id_argument
@yes_option
def delete(workflow_execution_id: int, yes: bool) -> None:
    """Deletes a workflow execution that has ended, with its task executions."""
    from aiflow_core import ops

    confirm(f"Delete workflow execution {workflow_execution_id}?", yes)
    ops.delete_workflow_execution(workflow_execution_id)
    click.echo(f"Workflow execution: {workflow_execution_id} deleted.")


@workflow_execution.command(
    "list",
    examples=[
        "aiflow workflow-execution list quickstart",
        "aiflow workflow-execution list quickstart --limit 10 --fields id,status,reason",
    ],
)
@name_argument
@namespace_option
@paging_options
@output_option
def list_executions(
    workflow_name: str, namespace: str, limit: int | None, offset: int, output: Output
) -> None:
    """Lists all executions of a workflow, the oldest first."""
    from aiflow_core import ops

    rows = ops.list_workflow_executions(workflow_name, namespace, limit, offset)
    show(rows, COLUMNS, output)


@workflow_execution.command(
    "show",
    examples=[
        "aiflow workflow-execution show 1",
        "aiflow workflow-execution show 1 --output json",
    ],
)
@id_argument
@output_option
def show_execution(workflow_execution_id: int, output: Output) -> None:
    """Shows the details of a workflow execution."""
    from aiflow_core import ops

    show([ops.get_workflow_execution(workflow_execution_id)], COLUMNS, output)


@workflow_execution.command(
    examples=[
        "aiflow workflow-execution watch 3",
        "aiflow workflow-execution watch 3 --timeout 2m",
    ]
)
@id_argument
@click.option(
    "--timeout", type=Duration(), help="Watch no longer than this, say 90s; exit code 7 then."
)
def watch(workflow_execution_id: int, timeout: float | None) -> None:
    """Shows a workflow execution and its tasks as they go on, until it ends.

    On a terminal this is a table, elsewhere a line for each change. The exit code is 10 unless the
    execution ends in success. Ctrl-C ends the watching and nothing else.
    """
    from aiflow_core.cli.watching import watch as watch_until_end

    ended = watch_until_end(workflow_execution_id, Patience(timeout=timeout))
    check_success(f"Workflow execution {workflow_execution_id}", ended.status, ended.reason)
