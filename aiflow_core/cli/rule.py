"""The commands `aiflow rule ...`: rules, tried out on what has happened."""

from pathlib import Path

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, namespace_option
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.simulate import COLUMNS, duration_option, plan_tasks, tasks_option


@click.group(cls=Group)
def rule() -> None:
    """Tries rules out on the events of the log."""


@rule.command(
    "test",
    examples=[
        "aiflow rule test --from 1 --to 500 --workflow quickstart",
        "aiflow rule test --from 1 --to 500 --file quickstart.py --task greet=SUCCESS",
    ],
)
@click.option("--from", "first", type=click.IntRange(min=1), required=True, help="First offset.")
@click.option("--to", "last", type=click.IntRange(min=1), required=True, help="Last offset.")
@click.option("-w", "--workflow", help="Name of the workflow: the uploaded one, or of the file.")
@click.option("--file", type=click.Path(path_type=Path), help="A workflow file, not yet uploaded.")
@click.option("--execution", type=Id(), help="Only what reached this workflow execution.")
@click.option(
    "--start/--no-start",
    default=True,
    show_default=True,
    help="Start an execution before the first event.",
)
@click.option("--server-uri", default="", help="The notification server. [default: as configured]")
@namespace_option
@tasks_option
@duration_option
@output_option
def test(
    first: int,
    last: int,
    workflow: str | None,
    file: Path | None,
    execution: int | None,
    start: bool,
    server_uri: str,
    namespace: str,
    tasks: tuple[tuple[str, str], ...],
    task_time: float,
    output: Output,
) -> None:
    """Shows what the rules of a workflow would decide on events of the log.

    Nothing is written. One execution of the workflow is taken to begin right before the first
    event, and its triggers to be there. An attempt of a task ends when the log says that one of
    that task did; with --task all end as the options say. Conditions of your own are evaluated
    here.
    """
    from aiflow_core.app import App
    from aiflow_core.cli.replay import replay, subject
    from aiflow_core.errors import UsageError

    if last < first:
        raise UsageError(f"--to {last} is before --from {first}.")
    if workflow is None and file is None:
        raise UsageError("Give --workflow or --file.")
    app = App.configured()
    tried = subject(app, workflow, file, namespace)
    with app.event_log(server_uri) as log:
        rehearsal = replay(
            *(log, first, last, tried),
            execution=execution,
            start=start,
            plan=lambda made: plan_tasks(made, tasks, task_time, tried.tasks) if tasks else None,
        )
    show(rehearsal.happenings, COLUMNS, output)
