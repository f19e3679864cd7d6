"""The commands `aiflow workflow-schedule ...`."""

from typing import Any

import click

from aiflow_core.cli.options import namespace_option
from aiflow_core.cli.starters import name_argument, starter_commands

COLUMNS = ("id", "workflow_id", "expression", "create_time", "is_paused")

workflow_schedule = starter_commands("schedule", COLUMNS)
workflow_schedule.help = "Manages the periodic schedules of the workflow."


@workflow_schedule.command(
    examples=[
        "aiflow workflow-schedule add quickstart 'cron@0 6 * * *'",
        "aiflow workflow-schedule add quickstart 'interval@0 1 0 0'",
    ]
)
@name_argument
@click.argument("expression", help="When executions start.")
@namespace_option
@click.option(
    "--time-zone",
    default="UTC",
    show_default=True,
    help="Whose clock a cron expression reads, as in Europe/Berlin.",
)
@click.option("--start", help="No tick before, as in '2026-01-31 06:00', in the time zone.")
@click.option("--end", help="No tick after.")
@click.option(
    "--catch-up",
    type=click.Choice(["none", "once", "all"]),
    default="once",
    show_default=True,
    help="How many of the ticks that were missed are made up for.",
)
@click.option(
    "--max-active-runs",
    type=click.IntRange(min=1),
    help="So many executions by schedules may run when one is started.",
)
def add(workflow_name: str, expression: str, namespace: str, **options: Any) -> None:
    """Creates a new schedule for a workflow.

    EXPRESSION is 'cron@minute hour day-of-month month day-of-week' or
    'interval@days hours minutes seconds'.
    """
    from aiflow_core import ops

    schedule = ops.add_workflow_schedule(expression, workflow_name, namespace, **options)
    click.echo(f"Workflow schedule: {schedule.id} created.")
