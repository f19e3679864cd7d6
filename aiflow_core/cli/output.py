"""What a command prints: data in four formats, all fields of them or some."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from aiflow_core.errors import UsageError, did_you_mean

FORMATS = ("table", "json", "yaml", "plain")

COLOURS = {
    "RUNNING": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "STOPPED": "yellow",
}
"""Of the words that a reader looks for: the statuses."""

_UNLIMITED = 1_000_000


@dataclass(frozen=True)
class Output:
    """How data are to be printed.

    Attributes:
        format: one of `FORMATS`.
        fields: the names of those that are wanted, in this order; empty: all.
    """

    format: str = "table"
    fields: tuple[str, ...] = ()


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--output` and `--fields`, which the command takes together as `output: Output`."""

    @wraps(command)
    def with_output(*args: Any, output: str, fields: str | None, **kwargs: Any) -> Any:
        names = tuple(name.strip() for name in (fields or "").split(",") if name.strip())
        return command(*args, output=Output(output, names), **kwargs)

    with_format = click.option(
        *("-o", "--output"),
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="Format of the output.",
    )
    with_fields = click.option(
        "--fields", metavar="NAME,...", help="Show only these fields, in this order."
    )
    return with_format(with_fields(with_output))


def show(rows: Iterable[Any], columns: Sequence[str], output: Output) -> None:
    """Print the columns of the rows (values of the model, or mappings) as is wanted.

    `UsageError` for a field that is none of the columns.
    """
    for name in output.fields:
        if name not in columns:
            raise UsageError(
                f"There is no field {name!r}.", next_step=did_you_mean(name, list(columns))
            )
    wanted = output.fields or columns
    picked = [{column: _field(row, column) for column in wanted} for row in rows]
    _PRINTERS[output.format](picked, wanted)


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, with milliseconds: 2024-05-01T12:00:00.000Z."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def shown_json(value: Any) -> str:
    """A mapping or list of values as JSON text, with times as `timestamp` writes them."""
    return json.dumps(plain_data(value), indent=2, ensure_ascii=False)


def _field(row: Any, column: str) -> Any:
    return row[column] if isinstance(row, dict) else getattr(row, column)


def plain_data(value: Any) -> Any:
    """The value as JSON and YAML have it."""
    import msgspec

    return _with_timestamps(msgspec.to_builtins(value, builtin_types=(datetime,)))


def _with_timestamps(plain: Any) -> Any:
    match plain:
        case datetime():
            return timestamp(plain)
        case dict():
            return {key: _with_timestamps(item) for key, item in plain.items()}
        case list() | tuple():
            return [_with_timestamps(item) for item in plain]
        case _:
            return plain


def _text(value: Any) -> str:
    """The value as it stands in a table."""
    plain = plain_data(value)
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
    data = [{key: plain_data(value) for key, value in row.items()} for row in rows]
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print_yaml(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import yaml

    data = [{key: plain_data(value) for key, value in row.items()} for row in rows]
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
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        cells = (_text(row[column]) for column in columns)
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
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
