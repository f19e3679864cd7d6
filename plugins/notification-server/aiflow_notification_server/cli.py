"""The command `notification`; its group `event` is also `aiflow event`."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from aiflow_core.cli.output import Program, confirm, output_option, show, yes_option
from aiflow_core.cli.settings import add_show_commands, write_new

if TYPE_CHECKING:
    from aiflow_core.daemon import Daemon
    from aiflow_core.model.event import Event
    from aiflow_notification_server.client import EmbeddedNotificationClient

# Seconds; somebody sits there and waits.
_PATIENCE = 3.0

_COLUMNS = ("namespace", "key", "value", "sender", "create_time", "context", "offset")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def notification() -> None:
    """The notification server of AIFlow, and its events."""


def main() -> None:
    """Run the command line."""
    notification(prog_name="notification")


# --- events ------------------------------------------------------------------------------------


def _of_events(command: Callable[..., None]) -> Callable[..., None]:
    """Options that every command of the group `event` takes."""
    for option in (
        click.option("--sender", help="Sender of the event."),
        click.option(
            *("-n", "--namespace"),
            help="Namespace of the event; unset, an event is sent to 'default', and all are read.",
        ),
        click.option(
            *("-s", "--server-uri"),
            help="host:port of the notification server; by default that of its settings.",
        ),
    ):
        command = option(command)
    return command


def _from_a_point(command: Callable[..., None]) -> Callable[..., None]:
    """Options for where in the log to begin."""
    for option in (
        click.option(
            "--begin-time",
            metavar="ISO-8601",
            callback=_moment,
            help="Events that were created at this time or later; without an offset it is local.",
        ),
        click.option("--begin-offset", type=int, help="Events behind this offset."),
    ):
        command = option(command)
    return command


def _moment(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a time such as 2024-05-01T12:00:00Z.") from error


@notification.group()
def event() -> None:
    """Manages events."""
    # gRPC reports the end of a connection by itself; what follows from it is reported here.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@event.command()
@click.argument("key")
@click.argument("value")
@click.option("--context", default="", help="Context of the event.")
@_of_events
def send(
    key: str,
    value: str,
    context: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
) -> None:
    """Sends an event."""
    from aiflow_core.model.event import Event
    from aiflow_core.model.workflow import DEFAULT_NAMESPACE

    chosen = DEFAULT_NAMESPACE if namespace is None else namespace
    with _client(server_uri) as client:
        sent = client.send_event(
            Event(key, value, namespace=chosen, sender=sender or "", context=context)
        )
    click.echo(f"Successfully send event: {_sentence(sent)}.")


@event.command("list")
@click.argument("key")
@_of_events
@_from_a_point
@output_option
def list_events(
    key: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
    begin_offset: int | None,
    begin_time: datetime | None,
    output: str,
) -> None:
    """Lists the events of a key, in which * stands for any run of characters."""
    from aiflow_core.clock import to_datetime
    from aiflow_core.model.serialization import to_plain

    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        events = client.list_events(key, namespace, sender, begin)
    rows = [to_plain(found) | {"create_time": to_datetime(found.create_time)} for found in events]
    show(rows, _COLUMNS, output)


@event.command()
@click.argument("key")
@_of_events
@_from_a_point
def count(
    key: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
    begin_offset: int | None,
    begin_time: datetime | None,
) -> None:
    """Counts the events of a key, in which * stands for any run of characters."""
    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        total, _ = client.count_events(key, namespace, sender, begin)
    click.echo(total)


@event.command()
@click.argument("key")
@_of_events
@_from_a_point
def listen(
    key: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
    begin_offset: int | None,
    begin_time: datetime | None,
) -> None:
    """Prints the events of a key as they come, a line each, until it is interrupted.

    Without a begin: those that come from now on. In the key, * stands for any run of characters.
    """
    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        events = client.follow(
            key, namespace, sender, client.newest_offset() if begin is None else begin
        )
        try:
            for found in events:
                click.echo(_sentence(found))
        except KeyboardInterrupt:  # the way to end it
            return


def _client(server_uri: str | None) -> "EmbeddedNotificationClient":
    from aiflow_notification_server.client import EmbeddedNotificationClient
    from aiflow_notification_server.settings import settings

    return EmbeddedNotificationClient(server_uri or settings().server_uri, timeout=_PATIENCE)


def _begin(
    client: "EmbeddedNotificationClient", offset: int | None, time: datetime | None
) -> int | None:
    if time is None:
        return offset
    return max(offset or 0, client.time_to_offset(time))


def _sentence(found: "Event") -> str:
    return (
        f"key:{found.key}, value:{found.value or ''}, namespace:{found.namespace}, "
        f"sender:{found.sender}, create_time:{found.create_time}, offset:{found.offset}, "
        f"context: {found.context}"
    )


# --- the server --------------------------------------------------------------------------------


@notification.group()
def server() -> None:
    """Starts and stops the notification server."""


@server.command()
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


@server.command()
def stop() -> None:
    """Stops the notification server. Listeners wait for the next one."""
    click.echo(f"pid: {_daemon().stop()} stopped")


@server.command()
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


@db.command()
def init() -> None:
    """Makes the tables of the events."""
    from aiflow_notification_server.settings import home

    home().mkdir(parents=True, exist_ok=True)
    with closing(_store()) as store:
        store.initialize()
    click.echo("The database is ready.")


@db.command()
@click.option(
    *("-v", "--version"), type=click.Choice(["head", "heads"]), default="heads", show_default=True
)
def upgrade(version: str) -> None:
    """Brings the tables of the events up to date."""
    with closing(_stopped_store()) as store:
        store.initialize()
    click.echo("The database is up to date.")


@db.command()
@click.option(
    *("-v", "--version"),
    required=True,
    help="The version to go back to; 'base' removes the tables with all events.",
)
@yes_option
def downgrade(version: str, yes: bool) -> None:
    """Takes the tables of the events back to an earlier version."""
    with closing(_stopped_store()) as store:
        confirm(f"Go back to {version}, and drop what did not exist then?", yes)
        store.downgrade(version)
    click.echo(f"The database is at version {version}.")


@db.command()
@yes_option
def reset(yes: bool) -> None:
    """Deletes all events and makes the tables anew."""
    with closing(_stopped_store()) as store:
        if not yes:
            click.confirm(
                "This will drop existing tables if they exist. Proceed?", abort=True, err=True
            )
        store.downgrade("base")
        store.initialize()
    click.echo("The database is empty.")


@db.command()
@output_option
def usage(output: str) -> None:
    """Shows how many rows and bytes the tables of the events take."""
    with closing(_store()) as store:
        show(store.usage(), ("table", "rows", "bytes"), output)


def _store() -> Any:
    """The log in the configured database, not connected yet."""
    from aiflow_core.plugins import make
    from aiflow_notification_server.settings import settings

    return make("aiflow.event_store", "sql", {"uri": settings().db_uri})


def _stopped_store() -> Any:
    """The same, while no server serves it."""
    if _daemon().pid() is not None:
        from aiflow_core.errors import ConflictError

        raise ConflictError(
            "The notification server is running.",
            next_step="Stop it first with 'notification server stop'.",
        )
    return _store()


# --- its settings ------------------------------------------------------------------------------


@notification.group()
def config() -> None:
    """Manages configuration."""


@config.command("init")
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


def _in_effect() -> dict[str, Any]:
    from aiflow_notification_server.settings import read_settings

    return read_settings().shown


add_show_commands(config, _in_effect)


# --- the rest ----------------------------------------------------------------------------------


@notification.command()
def version() -> None:
    """Shows the version."""
    from aiflow_core import __version__

    click.echo(__version__)
