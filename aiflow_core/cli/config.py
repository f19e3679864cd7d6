"""The commands `aiflow config ...`: the settings files and what they amount to."""

from pathlib import Path

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.settings import SettingsFile, add_show_commands, write_new


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


def _files() -> list[SettingsFile]:
    from aiflow_core import config as settings

    home = settings.home()
    return [
        SettingsFile(home / "aiflow_server.yaml", settings.read_server),
        SettingsFile(home / "aiflow_client.yaml", settings.read_client),
        SettingsFile(settings.project_file(), settings.read_project, is_shown=False),
    ]


def _write(path: Path, text: str) -> None:
    if write_new(path, text):
        click.echo(f"Creating new AIFlow config file in: {path}")
    else:
        click.echo(f"The AIFlow config file exists already: {path}", err=True)


add_show_commands(config, "aiflow", "rpc_port", _files)
