"""The command `aiflow version`."""

import click

from aiflow_core import __version__


@click.command()
def version() -> None:
    """Shows the version."""
    click.echo(__version__)
