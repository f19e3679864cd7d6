"""The commands `aiflow db ...`: the tables of the server's scheduler."""

import shutil

import click

from aiflow_core.app import App
from aiflow_core.cli.output import confirm, yes_option
from aiflow_core.deployment import forget_deployment
from aiflow_core.errors import ConflictError


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


def _stopped() -> App:
    """The deployment, while its server does not run."""
    app = App.configured()
    if app.daemon().pid() is not None:
        raise ConflictError(
            "The AIFlow server is running.", next_step="Stop it first with 'aiflow server stop'."
        )
    return app
