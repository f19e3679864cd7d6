"""The commands that show settings and write their files: the same for every program."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiflow_core.errors import ConfigError, NotFoundError, did_you_mean

if TYPE_CHECKING:
    from aiflow_core.config import Loaded


@dataclass(frozen=True)
class SettingsFile:
    """A file with settings.

    Attributes:
        load: reads it; `ConfigError` when something in it is wrong.
        is_shown: whether `list` shows its options.
    """

    path: Path
    load: Callable[[], "Loaded[Any]"]
    is_shown: bool = True


@dataclass(frozen=True)
class Option:
    """An option as it is in effect; `source` is the line or the environment variable that sets it,
    or `default`."""

    name: str
    value: Any
    source: str


def add_show_commands(
    group: click.Group, program: str, option: str, files: Callable[[], Sequence[SettingsFile]]
) -> None:
    """Give `group` the commands `get-value`, `list` and `validate` for these files.

    Args:
        program: the name of the program that the group belongs to.
        option: one of its options, for an example.
    """

    def in_effect() -> dict[str, Option]:
        return {o.name: o for file in files() if file.is_shown for o in _options(file)}

    def examples(*ends: str) -> list[str]:
        return [f"{program} config {end}" for end in ends]

    @group.command(
        "get-value", examples=examples(f"get-value {option}", f"get-value {option} --help")
    )
    @click.argument("option", help="The name of the option.")
    def get_value(option: str) -> None:
        """Shows the value of an option of the configuration, as it is in effect."""
        options = in_effect()
        if option not in options:
            raise NotFoundError("option", option, next_step=did_you_mean(option, list(options)))
        value = options[option].value
        click.echo(value if isinstance(value, str) else _yaml(value).strip())

    @group.command("list", examples=examples("list", "list --sources --color off"))
    @click.option(
        "--color",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="Show the names of the options in color.",
    )
    @click.option(
        "--sources", is_flag=True, help="Say above each option which line or variable sets it."
    )
    def list_options(color: str, sources: bool) -> None:
        """Shows all options of the configuration, as they are in effect."""
        wanted = {"auto": None, "on": True, "off": False}[color]
        for option in in_effect().values():
            if sources:
                click.echo(f"# {option.source}", color=wanted)
            name = click.style(option.name, fg="cyan")
            text = _yaml({option.name: option.value}).removeprefix(f"{option.name}:")
            click.echo(f"{name}:{text}", nl=False, color=wanted)

    @group.command(examples=examples("validate", "validate --help"))
    def validate() -> None:
        """Checks the configuration files and the environment variables that override them."""
        problems = []
        for file in files():
            try:
                loaded = file.load()
            except ConfigError as error:
                problems.append(str(error))
            else:
                state = "is right" if file.path.exists() else "does not exist, the defaults hold"
                click.echo(f"{file.path}: {state}")
                for notice in loaded.notices:
                    click.echo(notice, err=True)
        if problems:
            raise ConfigError(" ".join(problems))


def write_new(path: Path, text: str) -> bool:
    """Write a file unless it exists; whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _options(file: SettingsFile) -> Iterator[Option]:
    loaded = file.load()
    for name, value in loaded.shown.items():
        yield Option(name, value, str(loaded.origin(name) or "default"))


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return text.removesuffix("...\n")
