"""The way to a notification server, or to the one of several that answers."""

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError
from aiflow_notification_server.errors import from_status
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0

_OPTIONS = [
    ("SingleThreadedUnaryStream", 1),  # a pushed event is read by the thread that waits for it
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A server that vanished without a word, or hangs, is noticed after 15 seconds. The keepalive
    # timeout alone is not enough: gRPC waits for the longer time that any ping has.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The server is inside the deployment; a proxy to the outside does not know it.
    ("grpc.enable_http_proxy", 0),
]


T = TypeVar("T")


def _as_it_is(answer: Any) -> Any:
    return answer


class Backoff:
    """Pauses that double, up to a second."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self) -> float:
        """Seconds to wait before the next try."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause


class Connection:
    """Calls the servers of `server_uri`, `host:port` or several of these with commas between.

    It stays with one server until that one fails, then goes to the next.
    """

    def __init__(self, server_uri: str, timeout: float, clock: Clock) -> None:
        self._uris = [uri.strip() for uri in server_uri.split(",") if uri.strip()]
        if not self._uris:
            raise ConfigError(
                "The address of the notification server is empty.",
                next_step="Write it as host:port, for example localhost:50052.",
            )
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._closed = threading.Event()
        self._current = 0
        self._channels = [grpc.insecure_channel(uri, options=_OPTIONS) for uri in self._uris]
        self._stubs = [
            NotificationServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            for channel in self._channels
        ]

    @property
    def closed(self) -> threading.Event:
        """Set when the connection is closed, or is about to be."""
        return self._closed

    def call(self, method: str, request: Any, read: Callable[[Any], T] = _as_it_is) -> T:
        """What `read` makes of the answer to a request that may be repeated.

        Repeats it while no server answers, for as long as the timeout says; then
        `UnavailableError`.
        """
        deadline = self._clock.monotonic() + self._timeout
        backoff = Backoff()
        problem: UnavailableError | None = None
        while True:
            remaining = max(0.0, deadline - self._clock.monotonic())
            try:
                patience = min(remaining, self._timeout / len(self._uris))
                answer = self._try(method, request, patience, read)
            except UnavailableError as error:
                # The last try is cut off by the deadline, which says less than an answer before it.
                problem = error if problem is None or not _was_cut_off(error) else problem
                pause = backoff.next()
                if self._clock.monotonic() + pause >= deadline:
                    raise problem from problem.__cause__
                if self._clock.wait(self._closed, pause):
                    raise problem from problem.__cause__
            else:
                self.answered()
                return answer

    def open_stream(self, method: str, request: Any) -> Any:
        """The call of a method that streams. Errors of it go through `failed`."""
        try:
            return getattr(self._stubs[self._current], method)(request)
        except ValueError as error:  # what gRPC says of a closed channel
            raise self._was_closed() from error

    def answered(self) -> None:
        """A server has answered."""
        if self._away:
            with self._lock:
                if self._away:
                    self._away = False
                    log.info("The notification server at %s is back", self._uris[self._current])

    def failed(self, error: grpc.RpcError) -> AIFlowError:
        """The error that a failed call stands for. When it is one of reaching the server, the next
        call goes to the next server."""
        if self._closed.is_set():
            return self._was_closed()
        problem = from_status(error, ",".join(self._uris))
        if isinstance(problem, UnavailableError):
            with self._lock:
                if not self._away:
                    self._away = True
                    log.warning(
                        "Trying the notification server at %s again: %s",
                        self._uris[self._current],
                        error.details(),
                    )
                self._current = (self._current + 1) % len(self._uris)
        return problem

    def close(self) -> None:
        """Cut every call. Idempotent."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def _try(self, method: str, request: Any, timeout: float, read: Callable[[Any], T]) -> T:
        try:
            return read(getattr(self._stubs[self._current], method)(request, timeout=timeout))
        except grpc.RpcError as error:
            raise self.failed(error) from error
        except ValueError as error:
            raise self._was_closed() from error

    def _was_closed(self) -> UnavailableError:
        return UnavailableError(
            f"The connection to the notification server at {','.join(self._uris)} is closed."
        )


def _was_cut_off(error: UnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED
