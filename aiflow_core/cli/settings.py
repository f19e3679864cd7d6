"""The commands that show settings and write their files: the same for every program."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aiflow_core.errors import NotFoundError, did_you_mean


def add_show_commands(
    group: click.Group, program: str, option: str, in_effect: Callable[[], dict[str, Any]]
) -> None:
    """Give `group` the commands `get-value` and `list`, which show what `in_effect` returns.

    Args:
        program: the name of the program that the group belongs to.
        option: one of its options, for an example.
    """

    @group.command(
        "get-value",
        examples=[
            f"{program} config get-value {option}",
            f"{program} config get-value {option} --help",
        ],
    )
    @click.argument("option", help="The name of the option.")
    def get_value(option: str) -> None:
        """Shows the value of an option of the configuration, as it is in effect."""
        values = in_effect()
        if option not in values:
            raise NotFoundError("option", option, next_step=did_you_mean(option, list(values)))
        value = values[option]
        click.echo(value if isinstance(value, str) else _yaml(value).strip())

    @group.command(
        "list", examples=[f"{program} config list", f"{program} config list --color off"]
    )
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
        for option, value in in_effect().items():
            name = click.style(option, fg="cyan")
            text = _yaml({option: value}).removeprefix(f"{option}:")
            click.echo(f"{name}:{text}", nl=False, color=wanted)


def write_new(path: Path, text: str) -> bool:
    """Write a file unless it exists; whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return text.removesuffix("...\n")
