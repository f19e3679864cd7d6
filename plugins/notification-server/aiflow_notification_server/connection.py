"""The way to a notification server, or to the one of several that answers."""

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import grpc

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError
from aiflow_notification_server.errors import from_status
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_ASK_SECONDS = 1.0

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


class Way(NamedTuple):
    """How a call went.

    Attributes:
        uri: the server that is called.
        returns: how often one had come back before.
    """

    uri: str
    returns: int


class Connection:
    """Calls the servers of `server_uri`, `host:port` or several of these with commas between.

    It stays with one server until that one fails, then goes to the next. Servers that know of
    others are asked for them, so that one address is enough to find the others later.
    """

    def __init__(self, server_uri: str, timeout: float, clock: Clock) -> None:
        self._named = [uri.strip() for uri in server_uri.split(",") if uri.strip()]
        if not self._named:
            raise ConfigError(
                "The address of the notification server is empty.",
                next_step="Write it as host:port, for example localhost:50052.",
            )
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._returns = 0
        self._closed = threading.Event()
        self._uris = self._named
        self._current = self._named[0]
        self._has_asked = False
        self._lines: dict[str, tuple[grpc.Channel, Any]] = {}

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

    def open_stream(self, method: str, request: Any) -> tuple[Way, Any]:
        """The call of a method that streams, and the way it goes. Errors of the one go through
        `failed` with the other."""
        way, stub = self._server()
        try:
            return way, getattr(stub, method)(request)
        except ValueError as error:  # what gRPC says of a closed channel
            raise self._was_closed() from error

    def answered(self) -> None:
        """A server has answered."""
        if self._away:
            with self._lock:
                if self._away:
                    self._away = False
                    self._returns += 1
                    log.info("The notification server at %s is back", self._current)
        if not self._has_asked:
            self._ask_for_others()

    def failed(self, error: grpc.RpcError, way: Way) -> AIFlowError:
        """The error that a failed call stands for. When it is one of reaching the server, the next
        call goes to the next one."""
        if self._closed.is_set():
            return self._was_closed()
        problem = from_status(error, ",".join(self._uris))
        if isinstance(problem, UnavailableError):
            with self._lock:
                # What began before a return says nothing of the time after it, however late it
                # fails; and of a server that was left after another call's failure, no more.
                if way.returns == self._returns and way.uri == self._current:
                    self._leave(way.uri, error.details())
        return problem

    def _leave(self, uri: str, why: str | None) -> None:
        if not self._away:
            self._away = True
            log.warning("Trying the notification server at %s again: %s", uri, why)
        self._has_asked = False
        self._current = self._after(uri)

    def close(self) -> None:
        """Cut every call. Idempotent."""
        self._closed.set()
        with self._lock:
            lines = list(self._lines.values())
        for channel, _ in lines:
            channel.close()

    def _server(self) -> tuple[Way, Any]:
        """The way to the server to call now, and its stub; the channel is opened when it is first
        needed."""
        with self._lock:
            if self._closed.is_set():
                raise self._was_closed()
            uri = self._current
            if uri not in self._lines:
                channel = grpc.insecure_channel(uri, options=_OPTIONS)
                stub = NotificationServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
                self._lines[uri] = channel, stub
            return Way(uri, self._returns), self._lines[uri][1]

    def _after(self, uri: str) -> str:
        """The server to try after that one, which may have gone from the list."""
        place = self._uris.index(uri) + 1 if uri in self._uris else 0
        return self._uris[place % len(self._uris)]

    def _ask_for_others(self) -> None:
        """Once with each server: the list that it gives replaces the one that the last one gave."""
        with self._lock:
            if self._has_asked:
                return
            self._has_asked = True
        try:
            _, stub = self._server()
            answer = stub.listMembers(pb.ListMembersRequest(), timeout=_ASK_SECONDS)
        except (grpc.RpcError, ValueError, UnavailableError) as error:
            # What was to be done is done; the others are for a time that may never come.
            log.debug("The notification server tells of no others: %s", error)
            return
        members = [member.server_uri for member in answer.members]
        # One alone is the server itself, maybe under a name that only it knows.
        if len(members) > 1:
            with self._lock:
                self._uris = [*self._named, *(uri for uri in members if uri not in self._named)]

    def _try(self, method: str, request: Any, timeout: float, read: Callable[[Any], T]) -> T:
        way, stub = self._server()
        try:
            return read(getattr(stub, method)(request, timeout=timeout))
        except grpc.RpcError as error:
            raise self.failed(error, way) from error
        except ValueError as error:
            raise self._was_closed() from error

    def _was_closed(self) -> UnavailableError:
        return UnavailableError(
            f"The connection to the notification server at {','.join(self._uris)} is closed."
        )


def _was_cut_off(error: UnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED
