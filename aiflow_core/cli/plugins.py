"""The commands `aiflow plugins ...`."""

import click

from aiflow_core.cli.output import output_option, show

COLUMNS = ("kind", "name", "version", "origin", "problem")


@click.group()
def plugins() -> None:
    """Shows the installed plugins."""


@plugins.command("list")
@output_option
def list_plugins(output: str) -> None:
    """Lists all plugins; `problem` says why one cannot be used."""
    from aiflow_core.plugins import installed

    show(installed(), COLUMNS, output)
