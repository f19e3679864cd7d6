"""`aiflow run`: a workflow file, run here and now with everything it needs in one process tree."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from aiflow_core.cli.command import Command
from aiflow_core.cli.options import Duration, TaskAndStatus


@click.command(
    cls=Command,
    examples=[
        "aiflow run quickstart.py",
        "aiflow run quickstart.py --files words.txt,data --until greet=SUCCESS --for 5m",
    ],
)
@click.argument("file", help="The path of the workflow file.", type=click.Path(path_type=Path))
@click.option(
    *("-f", "--files"),
    metavar="PATH,...",
    help="Files and directories that the tasks find beside the workflow file.",
)
@click.option("-n", "--namespace", help="Run the workflows in this namespace.")
@click.option("-w", "--workflow", "only", help="Run only the workflow of this name.")
@click.option("--for", "period", type=Duration(), help="Stop after this time, say 60s.")
@click.option("--until-event", help="Stop when an event with this key comes (* is a wildcard).")
@click.option("--until", type=TaskAndStatus(), help="Stop when a task takes a status.")
@click.option(
    *("-o", "--output"),
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Format of the result; with json, what tasks print goes to the standard error.",
)
def run(
    file: Path,
    files: str | None,
    namespace: str | None,
    only: str | None,
    period: float | None,
    until_event: str | None,
    until: tuple[str, str] | None,
    output: str,
) -> None:
    """Runs a workflow file here and now, without servers.

    Ends with the workflow, or when one of --for, --until-event and --until says so; then all tasks
    are stopped. With --until-event or --until, --for is how long to wait for it at the most.

    What is kept is under AIFLOW_HOME, or under a temporary directory when that is not set. The exit
    code is 0 when nothing failed and what was waited for came, 10 when the workflow did not end in
    success, 7 when the time was up first.
    """
    from aiflow_core.app import App
    from aiflow_core.cli.progress import follow, summarize
    from aiflow_core.cli.running import Goal, Session

    # Everything in this process, the file included, is to find the same home.
    is_kept = bool(os.environ.get("AIFLOW_HOME"))
    home = os.environ["AIFLOW_HOME"] if is_kept else tempfile.mkdtemp(prefix="aiflow-")
    os.environ["AIFLOW_HOME"] = home
    goal = Goal(period=period, event_key=until_event, task_status=until)
    with ExitStack() as stack:
        session = Session(App.configured(), stack, goal)
        session.start(file, [f for f in (files or "").split(",") if f], namespace, only)
        try:
            follow(session, as_json=output == "json")
        except KeyboardInterrupt:
            click.echo("Interrupted: all tasks are stopped.", err=True)
            raise
        finally:
            summarize(session, output)
            click.echo(f"Logs and files of this run: {home}", err=True)
    session.judge()
