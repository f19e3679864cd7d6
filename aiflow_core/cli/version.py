"""The command `aiflow version`."""

import click

from aiflow_core import __version__
from aiflow_core.cli.command import Command


@click.command(cls=Command, examples=["aiflow version", "aiflow version --help"])
def version() -> None:
    """Shows the version."""
    click.echo(__version__)
