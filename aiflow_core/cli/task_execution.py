"""The commands `aiflow task-execution ...`."""

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, paging_options
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.waiting import Patience, check_success, wait_for_task, wait_options

COLUMNS = (
    *("id", "workflow_execution_id", "task_name", "sequence_number", "try_number", "begin_date"),
    *("end_date", "status", "reason"),
)

id_argument = click.argument("task_execution_id", help="The id of the task execution.", type=Id())
workflow_execution_argument = click.argument(
    "workflow_execution_id", help="The id of the workflow execution.", type=Id()
)
task_argument = click.argument("task_name", help="The name of the task.")


@click.group(cls=Group)
def task_execution() -> None:
    """Task execution related operations."""


@task_execution.command(
    examples=[
        "aiflow task-execution start 1 greet",
        "aiflow task-execution start 1 greet --wait --timeout 1m",
    ]
)
@workflow_execution_argument
@task_argument
@wait_options
def start(workflow_execution_id: int, task_name: str, patience: Patience) -> None:
    """Starts a new execution of a task of a running workflow execution.

    Nothing happens when the task runs already. With --wait the exit code is 10 unless the task
    ends in success.
    """
    from aiflow_core import ops

    key = ops.start_task_execution(workflow_execution_id, task_name)
    click.echo(f"Task execution: {key} submitted.")
    if patience.is_wanted:
        ended = wait_for_task(_newest(workflow_execution_id, task_name), patience)
        check_success(f"Task execution {key}", ended.status, ended.reason)
        click.echo(f"Task execution: {key} ended with {ended.status}.")


@task_execution.command(
    examples=[
        "aiflow task-execution stop 1 listen",
        "aiflow task-execution stop 2 listen --wait --timeout 1m",
    ]
)
@workflow_execution_argument
@task_argument
@wait_options
def stop(workflow_execution_id: int, task_name: str, patience: Patience) -> None:
    """Stops the running execution of a task of a workflow execution."""
    from aiflow_core import ops

    ops.stop_task_execution(workflow_execution_id, task_name)
    click.echo(
        f"Stopping execution of task: {task_name} of workflow execution: {workflow_execution_id}."
    )
    if patience.is_wanted:
        ended = wait_for_task(_newest(workflow_execution_id, task_name), patience)
        click.echo(f"Task: {task_name} ended with {ended.status}.")


@task_execution.command(
    "list",
    examples=[
        "aiflow task-execution list 1",
        "aiflow task-execution list 1 --output plain --fields task_name,status",
    ],
)
@workflow_execution_argument
@paging_options
@output_option
def list_executions(
    workflow_execution_id: int, limit: int | None, offset: int, output: Output
) -> None:
    """Lists all task executions of a workflow execution, the oldest first."""
    from aiflow_core import ops

    show(ops.list_task_executions(workflow_execution_id, limit, offset), COLUMNS, output)


@task_execution.command(
    "show",
    examples=[
        "aiflow task-execution show 1",
        "aiflow task-execution show 1 --output json",
    ],
)
@id_argument
@output_option
def show_execution(task_execution_id: int, output: Output) -> None:
    """Shows the details of a task execution."""
    from aiflow_core import ops

    show([ops.get_task_execution(task_execution_id)], COLUMNS, output)


@task_execution.command(
    examples=[
        "aiflow task-execution logs 1",
        "aiflow task-execution logs 1 --follow",
    ]
)
@id_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends.")
@click.option(
    "--try",
    "try_number",
    type=click.IntRange(min=1),
    help="That of an earlier attempt; by default the latest.",
)
def logs(task_execution_id: int, follow: bool, try_number: int | None) -> None:
    """Prints what a task execution has written.

    The log is where the task ran; the server that is asked must reach it.
    """
    from aiflow_core.cli.logs import print_log

    print_log(task_execution_id, try_number, follow, Patience())


def _newest(workflow_execution_id: int, task_name: str) -> int:
    """The id of the task's latest execution."""
    from aiflow_core import ops

    tasks = ops.list_task_executions(workflow_execution_id)
    return max(task.id for task in tasks if task.task_name == task_name)
