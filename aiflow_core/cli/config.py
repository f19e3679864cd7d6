"""The commands `aiflow config ...`: the settings files and what they amount to."""

from pathlib import Path
from typing import Any

import click

from aiflow_core.cli.settings import add_show_commands, write_new


@click.group()
def config() -> None:
    """Manages configuration."""


@config.command()
def init() -> None:
    """Writes the default configuration files; existing ones are left as they are."""
    from aiflow_core import config as settings

    home = settings.home()
    home.mkdir(parents=True, exist_ok=True)
    _write(home / "aiflow_server.yaml", settings.SERVER_FILE)
    _write(home / "aiflow_client.yaml", settings.CLIENT_FILE)


def _in_effect() -> dict[str, Any]:
    """Options of the server and of clients; files, environment and defaults taken together."""
    from aiflow_core.config import client_settings, server_settings
    from aiflow_core.model.serialization import to_plain

    values: dict[str, Any] = to_plain(server_settings()) | to_plain(client_settings())
    return values


def _write(path: Path, text: str) -> None:
    if write_new(path, text):
        click.echo(f"Creating new AIFlow config file in: {path}")
    else:
        click.echo(f"The AIFlow config file exists already: {path}", err=True)


add_show_commands(config, _in_effect)
