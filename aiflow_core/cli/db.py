"""The commands `aiflow db ...`: the tables of the server's scheduler."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import click

from aiflow_core.app import App, KeepsFilesHere, KeepsTables, ShowsUsage
from aiflow_core.cli.command import Group
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.tables import Tables, add_table_commands
from aiflow_core.deployment import forget_deployment
from aiflow_core.errors import ConflictError, UsageError


@click.group(cls=Group)
def db() -> None:
    """Database operations."""


@db.command(examples=["aiflow db usage", "aiflow db usage -o json"])
@output_option
def usage(output: Output) -> None:
    """Shows how much the tables of the metadata database, the logs and the blobs take."""
    app = App.configured()
    with app.tables() as tables:
        if not isinstance(tables, ShowsUsage):
            raise UsageError(f"The scheduler {type(tables).__name__} does not say what it takes.")
        rows = [
            {"what": f"table {found.table}", "count": found.rows, "bytes": found.bytes}
            for found in tables.usage()
        ]
    rows.append({"what": f"logs in {app.server.log_dir}", **_files(Path(app.server.log_dir))})
    blobs = app.blob_manager()
    if isinstance(blobs, KeepsFilesHere):
        rows.append({"what": f"blobs in {blobs.directory}", **_files(blobs.directory)})
    show(rows, ("what", "count", "bytes"), output)


def _files(directory: Path) -> dict[str, int]:
    """How many files there are in a directory, and what they take."""
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    return {"count": len(sizes), "bytes": sum(sizes)}


def _opened() -> AbstractContextManager[KeepsTables]:
    return App.configured().tables()


def _prepare() -> None:
    App.configured().home.mkdir(parents=True, exist_ok=True)


def _check_stopped() -> None:
    if App.configured().daemon().pid() is not None:
        raise ConflictError(
            "The AIFlow server is running.", next_step="Stop it first with 'aiflow server stop'."
        )


def _forget() -> None:
    home = App.configured().home
    # Executions to come have the ids of those that were forgotten, and must not find their traces.
    for directory in ("run", "working_dir"):
        shutil.rmtree(home / directory, ignore_errors=True)
    forget_deployment(home)


add_table_commands(
    db,
    Tables(
        program="aiflow",
        opened=_opened,
        prepare=_prepare,
        check_stopped=_check_stopped,
        forget=_forget,
    ),
)
