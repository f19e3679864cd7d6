"""The commands `db ...`, which make and change tables: the same for every program."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from aiflow_core.cli.options import confirm, yes_option

if TYPE_CHECKING:
    from aiflow_core.app import KeepsTables

sql_option = click.option(
    "--sql", is_flag=True, help="Print the SQL that would be executed, and change nothing."
)
version_option = click.option(
    *("-v", "--version"),
    default="heads",
    show_default=True,
    help="The version; 'heads' is the newest, 'base' is no tables at all.",
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Whose tables the commands change.

    Attributes:
        program: the name of the program, as in `<program> db init`.
        opened: the tables, to be closed again; `UsageError` or `ConfigError` when there are none.
        prepare: makes what must be there before the tables are.
        check_stopped: raises `ConflictError` while the server runs.
        forget: removes what belongs to tables that are made anew.
    """

    program: str
    opened: Callable[[], AbstractContextManager["KeepsTables"]]
    prepare: Callable[[], None]
    check_stopped: Callable[[], None]
    forget: Callable[[], None] = lambda: None


def add_table_commands(group: click.Group, of: Tables) -> None:
    """Give `group` the commands `init`, `upgrade`, `downgrade` and `reset`."""

    def examples(*ends: str) -> list[str]:
        return [f"{of.program} db {end}" for end in ends]

    @group.command(
        help="Makes the tables, or brings them up to date.", examples=examples("init", "init -h")
    )
    def init() -> None:
        of.prepare()
        with of.opened() as tables:
            tables.initialize()
        click.echo("The database is ready.")

    @group.command(
        help="Brings the tables up to a version, while the server does not run.",
        examples=examples("upgrade", "upgrade --version heads --sql"),
    )
    @version_option
    @sql_option
    def upgrade(version: str, sql: bool) -> None:
        if sql:
            _print_sql(of, version)
            return
        of.check_stopped()
        with of.opened() as tables:
            tables.initialize(version)
            _tell_version(tables)

    @group.command(
        help="Takes the tables back to an earlier version, while the server does not run.",
        examples=examples("downgrade --version 0001 --sql", "downgrade --version base --yes"),
    )
    @version_option
    @sql_option
    @yes_option
    def downgrade(version: str, sql: bool, yes: bool) -> None:
        if sql:
            _print_sql(of, version)
            return
        of.check_stopped()
        if version not in ("head", "heads"):
            confirm(f"Go back to {version}, and drop what did not exist then?", yes)
        with of.opened() as tables:
            tables.downgrade(version)
            _tell_version(tables)

    @group.command(
        help="Drops the tables with all that they hold, and makes them anew.",
        examples=examples("reset --yes", "reset --sql"),
    )
    @sql_option
    @yes_option
    def reset(sql: bool, yes: bool) -> None:
        if sql:
            _print_sql(of, "base", "heads")
            return
        of.check_stopped()
        confirm("This will drop existing tables if they exist. Proceed?", yes)
        with of.opened() as tables:
            tables.downgrade("base")
            tables.initialize()
        of.forget()
        click.echo("The database is empty.")


def _print_sql(of: Tables, *versions: str) -> None:
    with of.opened() as tables:
        click.echo(tables.sql(*versions), nl=False)


def _tell_version(tables: "KeepsTables") -> None:
    click.echo(f"The database is at version {tables.revision() or 'base'}.")
