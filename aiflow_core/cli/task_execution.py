"""The commands `aiflow task-execution ...`."""

import click

from aiflow_core.cli.output import output_option, show

COLUMNS = (
    *("id", "workflow_execution_id", "task_name", "sequence_number", "try_number", "begin_date"),
    *("end_date", "status", "reason"),
)


@click.group()
def task_execution() -> None:
    """Task execution related operations."""


@task_execution.command()
@click.argument("workflow_execution_id", type=int)
@click.argument("task_name")
def start(workflow_execution_id: int, task_name: str) -> None:
    """Starts a new execution of a task of a workflow execution."""
    from aiflow_core import ops

    key = ops.start_task_execution(workflow_execution_id, task_name)
    click.echo(f"Task execution: {key} submitted.")


@task_execution.command()
@click.argument("workflow_execution_id", type=int)
@click.argument("task_name")
def stop(workflow_execution_id: int, task_name: str) -> None:
    """Stops the running execution of a task of a workflow execution."""
    from aiflow_core import ops

    ops.stop_task_execution(workflow_execution_id, task_name)
    click.echo(
        f"Stopping execution of task: {task_name} of workflow execution: {workflow_execution_id}."
    )


@task_execution.command("list")
@click.argument("workflow_execution_id", type=int)
@output_option
def list_executions(workflow_execution_id: int, output: str) -> None:
    """Lists all task executions of a workflow execution."""
    from aiflow_core import ops

    show(ops.list_task_executions(workflow_execution_id), COLUMNS, output)


@task_execution.command("show")
@click.argument("task_execution_id", type=int)
@output_option
def show_execution(task_execution_id: int, output: str) -> None:
    """Shows the details of a task execution."""
    from aiflow_core import ops

    show([ops.get_task_execution(task_execution_id)], COLUMNS, output)
