"""Options that several commands take, and the types of what they are given."""

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aiflow_core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LARGEST_ID = 2**63 - 1


class Id(click.ParamType[int]):
    """A number that names something: 1, 2, 3 and so on."""

    name = "integer"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if not re.fullmatch(r"[+-]?\d+", str(value)):
            self.fail(f"{value!r} is not a valid integer.", param, ctx)
        if not 0 < int(value) <= _LARGEST_ID:
            self.fail(f"{value} names nothing; ids begin at 1.", param, ctx)
        return int(value)


class Duration(click.ParamType[float]):
    """A length of time: 500ms, 60s, 2m, 1h, 7d; a number without a unit is seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", str(value))
        if not found:
            self.fail(
                f"{value!r} is no duration; write for example 500ms, 60s, 2m, 1h or 7d.", param, ctx
            )
        return float(found[1]) * _UNITS[found[2] or "s"]


class TaskAndStatus(click.ParamType[tuple[str, str]]):
    """A task's name and a status: train=SUCCESS."""

    name = "task=status"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        from aiflow_core.model.status import TaskStatus

        if isinstance(value, tuple):
            return value
        task, is_pair, status = str(value).rpartition("=")
        if not is_pair or not task or status.upper() not in TaskStatus.__members__:
            known = ", ".join(TaskStatus.__members__)
            self.fail(f"{value!r} is not TASK=STATUS; the statuses are {known}.", param, ctx)
        return task, status.upper()


namespace_option = click.option(
    *("-n", "--namespace"),
    default="default",
    show_default=True,
    help="Namespace that contains the workflow.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost, unless `yes`; a no ends the program.

    `UsageError` when nobody is there to answer.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"Nobody can be asked {question!r}: the standard input is no terminal.",
            next_step="Say yes with -y.",
        )
    click.confirm(question, abort=True, err=True)


def confirm_if_watched(question: str, yes: bool) -> None:
    """The same before what can be done again: where nobody is there to answer, it is done."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def paging_options(command: F) -> F:
    """`--limit` and `--offset`, which the command takes by these names."""
    for option in (
        click.option(
            "--offset",
            type=click.IntRange(0, _LARGEST_ID),
            default=0,
            help="Leave out so many from the beginning.",
        ),
        click.option(
            "--limit", type=click.IntRange(1, _LARGEST_ID), help="Show no more than so many."
        ),
    ):
        command = option(command)
    return command
