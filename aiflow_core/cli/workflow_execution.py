"""The commands `aiflow workflow-execution ...`."""

import click

from aiflow_core.cli.output import confirm, namespace_option, output_option, show, yes_option

COLUMNS = (
    *("id", "workflow_id", "begin_date", "end_date", "status", "run_type", "snapshot_id"),
    *("event_offset", "reason"),
)


@click.group()
def workflow_execution() -> None:
    """Workflow execution related operations."""


@workflow_execution.command()
@click.argument("workflow_name")
@namespace_option
def start(workflow_name: str, namespace: str) -> None:
    """Starts a new execution of a workflow."""
    from aiflow_core import ops

    execution_id = ops.start_workflow_execution(workflow_name, namespace)
    click.echo(f"Workflow execution: {execution_id} submitted.")


@workflow_execution.command()
@click.argument("workflow_execution_id", type=int)
def stop(workflow_execution_id: int) -> None:
    """Stops a workflow execution."""
    from aiflow_core import ops

    ops.stop_workflow_execution(workflow_execution_id)
    click.echo(f"Stopping workflow execution: {workflow_execution_id}")


@workflow_execution.command("stop-all")
@click.argument("workflow_name")
@namespace_option
@yes_option
def stop_all(workflow_name: str, namespace: str, yes: bool) -> None:
    """Stops all running executions of a workflow."""
    from aiflow_core import ops

    confirm(f"Stop all executions of workflow {namespace}.{workflow_name}?", yes)
    ops.stop_workflow_executions(workflow_name, namespace)
    click.echo(f"Stopping all workflow executions of workflow: {namespace}.{workflow_name}")


@workflow_execution.command()
@click.argument("workflow_execution_id", type=int)
@yes_option
def delete(workflow_execution_id: int, yes: bool) -> None:
    """Deletes a finished workflow execution."""
    from aiflow_core import ops

    confirm(f"Delete workflow execution {workflow_execution_id}?", yes)
    ops.delete_workflow_execution(workflow_execution_id)
    click.echo(f"Workflow execution: {workflow_execution_id} deleted.")


@workflow_execution.command("list")
@click.argument("workflow_name")
@namespace_option
@output_option
def list_executions(workflow_name: str, namespace: str, output: str) -> None:
    """Lists all executions of a workflow."""
    from aiflow_core import ops

    show(ops.list_workflow_executions(workflow_name, namespace), COLUMNS, output)


@workflow_execution.command("show")
@click.argument("workflow_execution_id", type=int)
@output_option
def show_execution(workflow_execution_id: int, output: str) -> None:
    """Shows the details of a workflow execution."""
    from aiflow_core import ops

    show([ops.get_workflow_execution(workflow_execution_id)], COLUMNS, output)
