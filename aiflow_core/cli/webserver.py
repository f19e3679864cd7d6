"""The commands `aiflow webserver ...`, which AIFlow 0.4 had: there is no web server."""

from typing import NoReturn

import click

from aiflow_core.cli.command import Group
from aiflow_core.errors import UsageError


@click.group(cls=Group, hidden=True)
def webserver() -> None:
    """Says what to use in place of the web server that AIFlow 0.4 spoke of."""


@webserver.command(hidden=True)
@click.option("-d", "--daemon", is_flag=True, help="Run in the background.")
def start(daemon: bool) -> None:
    """Says what to use in place of the web server."""
    _refuse()


@webserver.command(hidden=True)
def stop() -> None:
    """Says what to use in place of the web server."""
    _refuse()


def _refuse() -> NoReturn:
    raise UsageError(
        "AIFlow has no web server.",
        next_step="Use `aiflow workflow-execution list` and `watch` to see what goes on.",
    )
