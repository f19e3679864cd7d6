"""The commands `aiflow project ...`: the file that says which plugins a deployment uses."""

import sys
from pathlib import Path

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.plugins import time_limit_option
from aiflow_core.cli.settings import write_new

COLUMNS = ("part", "plugin", "state", "problem")


@click.group(cls=Group)
def project() -> None:
    """Manages project.yaml: which plugins a deployment uses, and how."""


@project.command(examples=["aiflow project init", "aiflow project init deployment"])
@click.argument(
    *("directory",),
    type=click.Path(file_okay=False),
    default=".",
    help="Where it is written, the working directory if left out.",
)
def init(directory: str) -> None:
    """Writes a project.yaml with explanations; an existing one is left as it is."""
    from importlib import resources

    path = Path(directory) / "project.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (resources.files("aiflow_core.scaffold") / path.name).read_text(encoding="utf-8")
    if write_new(path, text):
        click.echo(f"Creating new AIFlow project file in: {path}")
    else:
        click.echo(f"The AIFlow project file exists already: {path}", err=True)


@project.command(examples=["aiflow project check", "aiflow project check --timeout 60 -o json"])
@time_limit_option
@output_option
def check(timeout: float, output: Output) -> None:
    """Loads all plugins that the deployment uses, checks their settings, and says of each whether
    it can be used.

    The exit code is 1 when one cannot. Nothing is connected to, and nothing is changed.
    """
    from aiflow_core.deployment_check import State, checked

    parts = list(checked(timeout))
    show(parts, COLUMNS, output)
    if any(part.state is State.BROKEN for part in parts):
        sys.exit(1)
