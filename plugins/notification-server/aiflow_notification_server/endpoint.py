"""NotificationEndpoint: serves an event store over gRPC."""

import errno
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc

from aiflow_core.clock import Clock
from aiflow_core.errors import ConfigError, ConflictError
from aiflow_core.specs.endpoint import Endpoint
from aiflow_core.specs.event_store import EventStore, KeepsMembers, Member
from aiflow_core.specs.scheduler import Scheduler
from aiflow_notification_server.log_tail import LogTail
from aiflow_notification_server.membership import Membership
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    add_NotificationServiceServicer_to_server,
)
from aiflow_notification_server.servicer import NotificationServicer
from aiflow_notification_server.settings import HOST_OF_ANY

# Threads for calls that are answered at once, beside one for every client that waits.
_BUSY_THREADS = 64

# Calls that may wait for one of these threads; more are told to try again, so that a flood of them
# costs their senders time, and this server no memory.
_WAITING_CALLS = 1000

_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 64 << 20),
    # Clients that vanished without a word make room, and clients may look for a server that did.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class NotificationEndpoint(Endpoint):
    """Serves the notification protocol.

    Args:
        host: address to listen at; the default is reachable from this machine only.
        port: 0 is any free port.
        advertised_uri: `host:port` at which others reach this server, when it differs.
        max_streams: how many clients may wait for events at one time.
        heartbeat: seconds after which a subscription without news says how far the log is.
        enable_ha: other servers serve the same log, and each tells clients of all of them.
        ha_ttl_ms: milliseconds after which a server that was not heard of counts as dead.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 50052,
        advertised_uri: str = "",
        max_streams: int = 1000,
        heartbeat: float = 5.0,
        enable_ha: bool = False,
        ha_ttl_ms: int = 10_000,
    ) -> None:
        self._host = host
        self._port = port
        self._advertised_uri = advertised_uri
        self._max_streams = max_streams
        self._heartbeat = heartbeat
        self._enable_ha = enable_ha
        self._ha_ttl_ms = ha_ttl_ms

    def start(
        self, stack: ExitStack, events: EventStore, scheduler: Scheduler | None = None
    ) -> str:
        """Listen and serve `events`; a scheduler has no part in it."""
        clock = Clock()
        # The pool makes a thread when there is a call and no idle thread.
        threads = ThreadPoolExecutor(self._max_streams + _BUSY_THREADS, "notification")
        stack.callback(threads.shutdown)
        server = grpc.server(
            threads,
            options=_OPTIONS,
            maximum_concurrent_rpcs=self._max_streams + _BUSY_THREADS + _WAITING_CALLS,
        )
        port = self._bind(server)
        address = self._advertised_uri or f"{self._reachable_host()}:{port}"
        tail = LogTail(events, clock)
        stack.callback(tail.close)
        servicer = NotificationServicer(
            events,
            tail,
            members=self._members(events, address, clock),
            max_streams=self._max_streams,
            heartbeat=self._heartbeat,
            clock=clock,
        )
        add_NotificationServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        server.start()
        stack.callback(lambda: server.stop(grace=None).wait())
        if isinstance(events, KeepsMembers) and self._enable_ha:
            Membership(events, address, self._ha_ttl_ms, clock).start(stack)
        return address

    def _members(
        self, events: EventStore, address: str, clock: Clock
    ) -> Callable[[], Sequence[Member]]:
        """What tells the servers that clients may go to; without `enable_ha` this one alone."""
        if not self._enable_ha:
            return lambda: [Member(address, clock.now_ms())]
        if not isinstance(events, KeepsMembers):
            raise ConfigError(
                f"{type(events).__name__} does not tell servers of each other.",
                next_step="Leave out `enable_ha`, or use an event store in a SQL database.",
            )
        if self._host in HOST_OF_ANY and not self._advertised_uri:
            raise ConfigError(
                "With `enable_ha` other machines are told the address of this server, and "
                f"{address} means each of them itself.",
                next_step="Set `advertised_uri` to the host:port at which they reach this server.",
            )
        return events.members

    def _bind(self, server: grpc.Server) -> int:
        self._check_free()
        try:
            return server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise self._in_use() from error

    def _check_free(self) -> None:
        """gRPC does not say why it cannot listen; the socket does."""
        host = self._host.strip("[]")
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise self._in_use() from error
            raise ConfigError(
                f"It is not possible to listen at {self._host}:{self._port}: {error.strerror}.",
                next_step="Set `server_host` to an address of this machine, and `server_port` to a "
                "port that its user may open.",
            ) from error

    def _in_use(self) -> ConflictError:
        return ConflictError(
            f"Port {self._port} of {self._host} is in use.",
            next_step="Stop the server that listens there, or choose another `server_port`.",
        )

    def _reachable_host(self) -> str:
        return "localhost" if self._host in HOST_OF_ANY else self._host
