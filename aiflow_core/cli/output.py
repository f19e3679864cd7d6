"""What a command prints: data in four formats on stdout, an error as one sentence on stderr."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from aiflow_core.errors import AIFlowError

FORMATS = ("table", "json", "yaml", "plain")

_UNLIMITED = 1_000_000

EXIT_BUG = 70
EXIT_INTERRUPTED = 130

output_option = click.option(
    *("-o", "--output"),
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="Format of the output.",
)
namespace_option = click.option(
    *("-n", "--namespace"), default="default", show_default=True, help="Namespace of the workflow."
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")


class Program(click.Group):
    """A command line whose errors are one sentence on stderr and an exit code.

    The exit code is the error's own, see `aiflow_core.errors`. `--debug` shows the traceback, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug")
        try:
            return super().invoke(ctx)
        except AIFlowError as error:
            _explain(f"Error: {error}", debug)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has enough. The interpreter would complain while flushing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            hint = "" if debug else " Run it again with --debug and report what it shows."
            _explain(f"This is a bug in AIFlow: {type(error).__name__}: {error}.{hint}", debug)
            sys.exit(EXIT_BUG)


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes` or nobody is there to answer; a no ends the program."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def show(rows: Iterable[Any], columns: Sequence[str], output: str) -> None:
    """Print the columns of the rows (values of the model, or mappings) in the chosen format."""
    picked = [{column: _field(row, column) for column in columns} for row in rows]
    _PRINTERS[output](picked, columns)


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, with milliseconds: 2024-05-01T12:00:00.000Z."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def shown_json(value: Any) -> str:
    """A mapping or list of values as JSON text, with times as `timestamp` writes them."""
    return json.dumps(_plain_data(value), indent=2, ensure_ascii=False)


def _explain(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(sentence, err=True)


def _field(row: Any, column: str) -> Any:
    return row[column] if isinstance(row, dict) else getattr(row, column)


def _plain_data(value: Any) -> Any:
    """The value as JSON and YAML have it."""
    import msgspec

    return _with_timestamps(msgspec.to_builtins(value, builtin_types=(datetime,)))


def _with_timestamps(plain: Any) -> Any:
    match plain:
        case datetime():
            return timestamp(plain)
        case dict():
            return {key: _with_timestamps(item) for key, item in plain.items()}
        case list():
            return [_with_timestamps(item) for item in plain]
        case _:
            return plain


def _text(value: Any) -> str:
    """The value as it stands in a table."""
    plain = _plain_data(value)
    match plain:
        case None:
            return ""
        case str():
            return plain
        case bool() | int() | float():
            return str(plain)
        case _:
            return json.dumps(plain, ensure_ascii=False)


def _print_json(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    data = [{key: _plain_data(value) for key, value in row.items()} for row in rows]
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print_yaml(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import yaml

    data = [{key: _plain_data(value) for key, value in row.items()} for row in rows]
    click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def _print_plain(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        click.echo("No data found")
        return
    lines = [list(columns), *([_text(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _print_table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        click.echo("No data found")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    console = Console(markup=False, highlight=False, emoji=False)
    unlimited = console.options.update(width=_UNLIMITED)
    width = console.measure(table, options=unlimited).maximum
    if console.is_terminal and width > console.width:
        _print_records(rows, columns)
    else:
        console.width = width
        console.print(table)


def _print_records(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """A line for each field: what a table too wide for the terminal would make unreadable."""
    width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for column in columns:
            click.echo(f"{column.ljust(width)}  {_text(row[column])}".rstrip())


_PRINTERS: dict[str, Callable[[list[dict[str, Any]], Sequence[str]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "yaml": _print_yaml,
    "plain": _print_plain,
}
