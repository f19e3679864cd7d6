"""The command `notification`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aiflow_core.cli.command import Program
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.cli.settings import SettingsFile, add_show_commands, write_new
from aiflow_core.cli.tables import Tables, add_table_commands
from aiflow_notification_server.event_cli import event

if TYPE_CHECKING:
    from aiflow_core.daemon import Daemon


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def notification() -> None:
    """The notification server of AIFlow, and its events."""


notification.add_command(event)


def main() -> None:
    """Run the command line."""
    notification(prog_name="notification")


# --- the server --------------------------------------------------------------------------------


@notification.group()
def server() -> None:
    """Starts and stops the notification server."""


@server.command(examples=["notification server start -d", "notification server start"])
@click.option("-d", "--daemon", is_flag=True, help="Run in the background.")
def start(daemon: bool) -> None:
    """Starts the notification server.

    With -d the command returns when the server is ready, or says why it is not.
    """
    if daemon:
        _start_in_background()
        return
    from aiflow_core.daemon import log_to_stderr

    log_to_stderr()
    _daemon().run(_serve)


@server.command(examples=["notification server stop", "notification server stop --help"])
def stop() -> None:
    """Stops the notification server.

    Listeners wait for the next one.
    """
    click.echo(f"pid: {_daemon().stop()} stopped")


@server.command(examples=["notification server status", "notification server status --help"])
def status() -> None:
    """Tells whether the notification server runs; the exit code is 3 when it does not."""
    pid = _daemon().pid()
    click.echo("The notification server is not running." if pid is None else f"pid: {pid} running")
    sys.exit(3 if pid is None else 0)


def _serve(stack: ExitStack) -> None:
    from aiflow_notification_server.endpoint import NotificationEndpoint
    from aiflow_notification_server.settings import settings

    configured = settings()
    store = _store()
    stack.callback(store.close)
    store.check(init_command="notification db init")
    endpoint = NotificationEndpoint(
        host=configured.server_host,
        port=configured.server_port,
        advertised_uri=configured.advertised_uri,
        enable_ha=configured.enable_ha,
        ha_ttl_ms=configured.ha_ttl_ms,
    )
    address = endpoint.start(stack, store)
    click.echo(f"Notification server started at {address}.")


def _start_in_background() -> None:
    from aiflow_notification_server.settings import home, settings

    daemon = _daemon()
    log_file = home() / "logs" / f"notification_server-{datetime.now():%Y%m%d-%H%M%S}.log"
    click.echo("Starting Notification Server in daemon mode")
    click.echo(f"Notification server log: {log_file}")
    click.echo(f"Notification server pid file: {daemon.pid_file}")
    # -P: a file beside the user must not be imported in place of a module.
    command = [sys.executable, "-P", "-m", "aiflow_notification_server", "server", "start"]
    timeout = settings().wait_for_server_started_timeout
    pid = daemon.start_detached(command, log_file, timeout=timeout)
    click.echo(f"Notification server started, pid: {pid}")


def _daemon() -> "Daemon":
    from aiflow_core.daemon import Daemon
    from aiflow_notification_server.settings import home

    return Daemon(
        name="Notification server",
        pid_file=home() / "notification_server.pid",
        command="notification server",
    )


# --- its database ------------------------------------------------------------------------------


@notification.group()
def db() -> None:
    """Database operations."""


@contextmanager
def _tables() -> Iterator[Any]:
    with closing(_store()) as store:
        yield store


def _prepare() -> None:
    from aiflow_notification_server.settings import home

    home().mkdir(parents=True, exist_ok=True)


def _check_stopped() -> None:
    if _daemon().pid() is not None:
        from aiflow_core.errors import ConflictError

        raise ConflictError(
            "The notification server is running.",
            next_step="Stop it first with 'notification server stop'.",
        )


add_table_commands(
    db,
    Tables(program="notification", opened=_tables, prepare=_prepare, check_stopped=_check_stopped),
)


@db.command(examples=["notification db usage", "notification db usage -o json"])
@output_option
def usage(output: Output) -> None:
    """Shows how many rows and bytes the tables of the events take."""
    with closing(_store()) as store:
        show(store.usage(), ("table", "rows", "bytes"), output)


def _store() -> Any:
    """The log in the configured database, not connected yet."""
    from aiflow_core.plugins import make
    from aiflow_notification_server.settings import settings

    return make("aiflow.event_store", "sql", {"uri": settings().db_uri})


# --- its settings ------------------------------------------------------------------------------


@notification.group()
def config() -> None:
    """Manages configuration."""


@config.command("init", examples=["notification config init", "notification config init --help"])
def init_config() -> None:
    """Writes the default configuration file; an existing one is left as it is."""
    from aiflow_core.config import default_file
    from aiflow_notification_server.settings import TITLE, NotificationSettings, settings_file

    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    if write_new(path, default_file(NotificationSettings, TITLE)):
        click.echo(f"Notification server config generated at {path}")
    else:
        click.echo(f"The notification server config exists already: {path}", err=True)


def _files() -> list[SettingsFile]:
    from aiflow_notification_server.settings import read_settings, settings_file

    return [SettingsFile(settings_file(), read_settings)]


add_show_commands(config, "notification", "db_uri", _files)


# --- the rest ----------------------------------------------------------------------------------


@notification.command(examples=["notification version", "notification version --help"])
def version() -> None:
    """Shows the version."""
    from aiflow_core import __version__

    click.echo(__version__)
