"""The commands `aiflow server ...`."""

import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import click

from aiflow_core.app import App
from aiflow_core.cli.command import Group
from aiflow_core.daemon import log_to_stderr


@click.group(cls=Group)
def server() -> None:
    """Starts and stops the AIFlow server."""


@server.command(examples=["aiflow server start -d", "aiflow server start"])
@click.option("-d", "--daemon", is_flag=True, help="Run in the background.")
def start(daemon: bool) -> None:
    """Starts the AIFlow server.

    With -d the command returns when the server is ready, or says why it is not.
    """
    app = App.configured()
    if daemon:
        _start_in_background(app)
        return
    log_to_stderr()

    def serve(stack: ExitStack) -> None:
        address = app.serve(stack)
        click.echo(f"AIFlow server started at {address}.")

    app.daemon().run(serve)


@server.command(examples=["aiflow server stop", "aiflow server stop --help"])
def stop() -> None:
    """Stops the AIFlow server.

    Running tasks go on, and are taken over at the next start.
    """
    pid = App.configured().daemon().stop()
    click.echo(f"pid: {pid} stopped")


@server.command(examples=["aiflow server status", "aiflow server status --help"])
def status() -> None:
    """Tells whether the AIFlow server runs; the exit code is 3 when it does not."""
    daemon = App.configured().daemon()
    pid = daemon.pid()
    click.echo("The AIFlow server is not running." if pid is None else f"pid: {pid} running")
    sys.exit(3 if pid is None else 0)


def _start_in_background(app: App) -> None:
    log_file = Path(app.server.log_dir) / f"aiflow_server-{datetime.now():%Y%m%d-%H%M%S}.log"
    daemon = app.daemon()
    click.echo("Starting AIFlow Server in daemon mode")
    click.echo(f"AIFlow server log: {log_file}")
    click.echo(f"AIFlow server pid file: {daemon.pid_file}")
    # -P: a file beside the user must not be imported in place of a module.
    command = [sys.executable, "-P", "-m", "aiflow_core.cli", "server", "start"]
    pid = daemon.start_detached(command, log_file)
    click.echo(f"AIFlow server started, pid: {pid}")
