"""Every command of `aiflow` and `notification`, for the tests that go through all of them."""

from collections.abc import Iterator

import click

from aiflow_core.cli import aiflow
from aiflow_notification_server.cli import notification

PROGRAMS = {"aiflow": aiflow, "notification": notification}


def groups() -> dict[str, click.Group]:
    """Every group by what is typed for it, the programs among them; without the hidden ones."""
    return {words: found for words, found in _all() if isinstance(found, click.Group)}


def commands() -> dict[str, click.Command]:
    """Every command that is no group by what is typed for it; without the hidden ones."""
    return {words: found for words, found in _all() if not isinstance(found, click.Group)}


def context_of(words: str, command: click.Command) -> click.Context:
    """The context in which a command finds itself when it is typed so."""
    # click keeps the option for help that a command was first asked for.
    return click.Context(command, info_name=words, help_option_names=["-h", "--help"])


def _all() -> Iterator[tuple[str, click.Command]]:
    for name, program in PROGRAMS.items():
        yield name, program
        yield from _inside(name, program)


def _inside(words: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if not found.hidden:
            yield f"{words} {name}", found
            if isinstance(found, click.Group):
                yield from _inside(f"{words} {name}", found)
