"""The commands `aiflow config ...`: the settings files and what they amount to."""

from pathlib import Path
from typing import Any

import click

from aiflow_core.errors import NotFoundError


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


@config.command("get-value")
@click.argument("option")
def get_value(option: str) -> None:
    """Shows the value of an option of the configuration, as it is in effect."""
    values = _in_effect()
    if option not in values:
        from aiflow_core.errors import did_you_mean

        raise NotFoundError("option", option, next_step=did_you_mean(option, list(values)))
    value = values[option]
    click.echo(value if isinstance(value, str) else _yaml(value).strip())


@config.command("list")
@click.option(
    "--color",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Show the names of the options in color.",
)
def list_options(color: str) -> None:
    """Shows all options of the configuration, as they are in effect."""
    wanted = {"auto": None, "on": True, "off": False}[color]
    for option, value in _in_effect().items():
        name = click.style(option, fg="cyan")
        text = _yaml({option: value}).removeprefix(f"{option}:")
        click.echo(f"{name}:{text}", nl=False, color=wanted)


def _in_effect() -> dict[str, Any]:
    """Options of the server and of clients; files, environment and defaults taken together."""
    from aiflow_core.config import client_settings, server_settings
    from aiflow_core.model.serialization import to_plain

    values: dict[str, Any] = to_plain(server_settings()) | to_plain(client_settings())
    return values


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        click.echo(f"The AIFlow config file exists already: {path}", err=True)
    else:
        click.echo(f"Creating new AIFlow config file in: {path}")


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n")
