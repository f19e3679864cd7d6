"""The commands `aiflow db ...`: the tables of the server's scheduler."""

import shutil
from pathlib import Path

import click

from aiflow_core.app import App, KeepsFilesHere, ShowsUsage
from aiflow_core.cli.output import confirm, output_option, show, yes_option
from aiflow_core.deployment import forget_deployment
from aiflow_core.errors import ConflictError, UsageError


@click.group()
def db() -> None:
    """Database operations."""


@db.command()
def init() -> None:
    """Makes the tables of the metadata database."""
    app = App.configured()
    app.home.mkdir(parents=True, exist_ok=True)
    with app.tables() as tables:
        tables.initialize()
    click.echo("The database is ready.")


@db.command()
@click.option(
    *("-v", "--version"), type=click.Choice(["head", "heads"]), default="heads", show_default=True
)
def upgrade(version: str) -> None:
    """Brings the tables of the metadata database up to date."""
    with _stopped().tables() as tables:
        tables.initialize()
    click.echo("The database is up to date.")


@db.command()
@click.option(
    *("-v", "--version"),
    required=True,
    help="The version to go back to; 'base' removes the tables with all that they hold.",
)
@yes_option
def downgrade(version: str, yes: bool) -> None:
    """Takes the tables of the metadata database back to an earlier version."""
    app = _stopped()
    confirm(f"Go back to {version}, and drop what did not exist then?", yes)
    with app.tables() as tables:
        tables.downgrade(version)
    click.echo(f"The database is at version {version}.")


@db.command()
@yes_option
def reset(yes: bool) -> None:
    """Burns down and rebuilds the metadata database."""
    app = _stopped()
    if not yes:
        click.confirm(
            "This will drop existing tables if they exist. Proceed?", abort=True, err=True
        )
    with app.tables() as tables:
        tables.downgrade("base")
        tables.initialize()
    # Executions to come have the ids of those that were forgotten, and must not find their traces.
    for directory in ("run", "working_dir"):
        shutil.rmtree(app.home / directory, ignore_errors=True)
    forget_deployment(app.home)
    click.echo("The database is empty.")


@db.command()
@output_option
def usage(output: str) -> None:
    """Shows how much the tables of the metadata database, the logs and the blobs take."""
    app = App.configured()
    with app.tables() as tables:
        if not isinstance(tables, ShowsUsage):
            raise UsageError(f"The scheduler {type(tables).__name__} does not say what it takes.")
        rows = [
            {"what": f"table {found.table}", "count": found.rows, "bytes": found.bytes}
            for found in tables.usage()
        ]
    rows.append({"what": f"logs in {app.server.log_dir}", **_files(Path(app.server.log_dir))})
    blobs = app.blob_manager()
    if isinstance(blobs, KeepsFilesHere):
        rows.append({"what": f"blobs in {blobs.directory}", **_files(blobs.directory)})
    show(rows, ("what", "count", "bytes"), output)


def _files(directory: Path) -> dict[str, int]:
    """How many files there are in a directory, and what they take."""
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    return {"count": len(sizes), "bytes": sum(sizes)}


def _stopped() -> App:
    """The deployment, while its server does not run."""
    app = App.configured()
    if app.daemon().pid() is not None:
        raise ConflictError(
            "The AIFlow server is running.", next_step="Stop it first with 'aiflow server stop'."
        )
    return app
