"""The commands `aiflow workflow-schedule ...`."""

import click

from aiflow_core.cli.output import namespace_option
from aiflow_core.cli.starters import starter_commands

COLUMNS = ("id", "workflow_id", "expression", "create_time", "is_paused")

workflow_schedule = starter_commands("schedule", COLUMNS)
workflow_schedule.help = "Manages the periodic schedules of the workflow."


@workflow_schedule.command()
@click.argument("workflow_name")
@click.argument("expression")
@namespace_option
def add(workflow_name: str, expression: str, namespace: str) -> None:
    """Creates a new schedule for a workflow.

    EXPRESSION is 'cron@minute hour day-of-month month day-of-week' (UTC) or
    'interval@days hours minutes seconds'.
    """
    from aiflow_core import ops

    schedule = ops.add_workflow_schedule(expression, workflow_name, namespace)
    click.echo(f"Workflow schedule: {schedule.id} created.")
