"""The commands `notification event ...`, which are also `aiflow event ...`."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Duration
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.errors import WaitTimeoutError

if TYPE_CHECKING:
    from aiflow_core.model.event import Event
    from aiflow_notification_server.client import EmbeddedNotificationClient

# Seconds; somebody sits there and waits.
_PATIENCE = 3.0

_COLUMNS = ("namespace", "key", "value", "sender", "create_time", "context", "offset")

key_argument = click.argument("key", help="Key of the events; * stands for any run of characters.")
limit_option = click.option("--limit", type=click.IntRange(min=1), help="No more than so many.")


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


@click.group(cls=Group)
def event() -> None:
    """Manages events."""
    # gRPC reports the end of a connection by itself; what follows from it is reported here.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@event.command(
    examples=[
        "aiflow event send data_ready 2024-05-01",
        "aiflow event send data_ready done --namespace lab --sender loader",
    ]
)
@click.argument("key", help="Key of the event.")
@click.argument("value", help="Value of the event.")
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


@event.command(
    "list",
    examples=[
        "aiflow event list data_ready",
        "aiflow event list 'data_*' --begin-time 2024-05-01T00:00:00Z --limit 5 --output json",
    ],
)
@key_argument
@_of_events
@_from_a_point
@limit_option
@output_option
def list_events(
    key: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
    begin_offset: int | None,
    begin_time: datetime | None,
    limit: int | None,
    output: Output,
) -> None:
    """Lists the events of a key."""
    from aiflow_core.clock import to_datetime
    from aiflow_core.model.serialization import to_plain

    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        events = client.list_events(key, namespace, sender, begin, limit=limit)
    rows = [to_plain(found) | {"create_time": to_datetime(found.create_time)} for found in events]
    show(rows, _COLUMNS, output)


@event.command(
    examples=[
        "aiflow event count data_ready",
        "aiflow event count 'data_*' --namespace default --begin-offset 2",
    ]
)
@key_argument
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
    """Counts the events of a key."""
    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        total, _ = client.count_events(key, namespace, sender, begin)
    click.echo(total)


@event.command(
    examples=[
        "aiflow event listen data_ready --begin-offset 0 --limit 1",
        "aiflow event listen 'data_*' --begin-offset 0 --limit 1 --timeout 1m",
    ]
)
@key_argument
@_of_events
@_from_a_point
@limit_option
@click.option(
    "--timeout", type=Duration(), help="Listen no longer than this, say 90s; exit code 7 then."
)
def listen(
    key: str,
    server_uri: str | None,
    namespace: str | None,
    sender: str | None,
    begin_offset: int | None,
    begin_time: datetime | None,
    limit: int | None,
    timeout: float | None,
) -> None:
    """Prints the events of a key as they come, a line each, until it is interrupted.

    Without a begin: those that come from now on.
    """
    with _client(server_uri) as client:
        begin = _begin(client, begin_offset, begin_time)
        events = client.follow(
            key, namespace, sender, client.newest_offset() if begin is None else begin
        )
        try:
            with _alarm(client, timeout) as is_over:
                for found in islice(events, limit):
                    click.echo(_sentence(found))
        except KeyboardInterrupt:  # the way to end it
            return
    if is_over.is_set():
        raise WaitTimeoutError(f"No more events of {key!r} came within {timeout:g} s.")


@contextmanager
def _alarm(
    client: "EmbeddedNotificationClient", timeout: float | None
) -> Iterator[threading.Event]:
    """Close the client after so many seconds, unless the block has ended; the event is set then."""
    is_over = threading.Event()

    def ring() -> None:
        is_over.set()
        client.close()

    alarm = threading.Timer(timeout or 0, ring)
    alarm.daemon = True
    if timeout is not None:
        alarm.start()
    try:
        yield is_over
    finally:
        alarm.cancel()


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
