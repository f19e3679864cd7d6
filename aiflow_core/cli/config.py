"""The commands `aiflow config ...`: the settings files and what they amount to."""

from pathlib import Path
from typing import Any

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.settings import add_show_commands, write_new


@click.group(cls=Group)
def config() -> None:
    """Manages configuration."""


@config.command(examples=["aiflow config init", "aiflow config init --help"])
def init() -> None:
    """Writes the default configuration files; existing ones are left as they are."""
    from aiflow_core import config as settings

    home = settings.home()
    home.mkdir(parents=True, exist_ok=True)
    for name, kind, whose in (
        ("aiflow_server.yaml", settings.ServerSettings, "the AIFlow server"),
        ("aiflow_client.yaml", settings.ClientSettings, "AIFlow's clients"),
    ):
        title = f"Settings of {whose}. ${{AIFLOW_HOME}} is the directory of this file."
        _write(home / name, settings.default_file(kind, title))


def _in_effect() -> dict[str, Any]:
    """Options of the server and of clients; files, environment and defaults taken together."""
    from aiflow_core.config import read_client, read_server

    return read_server().shown | read_client().shown


def _write(path: Path, text: str) -> None:
    if write_new(path, text):
        click.echo(f"Creating new AIFlow config file in: {path}")
    else:
        click.echo(f"The AIFlow config file exists already: {path}", err=True)


add_show_commands(config, "aiflow", "rpc_port", _in_effect)
