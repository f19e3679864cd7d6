"""RemoteScheduler: the scheduler of an AIFlow server elsewhere."""

import random
import threading
from abc import update_abstractmethods
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError, WaitTimeoutError
from aiflow_core.specs.scheduler import (
    DeadLetterOperations,
    ExplanationOperations,
    LogOperations,
    NamespaceOperations,
    ScheduleOperations,
    Scheduler,
    SnapshotOperations,
    StateOperations,
    TriggerOperations,
    current_request_id,
)
from aiflow_server.rpc import METHODS, REQUEST_ID, Method

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The pauses between tries are ours; the channel's own would outlast them.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # One that vanished without a word, or hangs, is noticed while its answer is waited for.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
]

C = TypeVar("C", bound=type)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


def forwarding(cls: C) -> C:
    """Class decorator: define every method of the contracts as a call of `cls._call`."""
    for method in METHODS.values():
        setattr(cls, method.name, _forward(method))
    update_abstractmethods(cls)
    return cls


def _forward(method: Method) -> Callable[..., Any]:
    @wraps(method.function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call(method, method.encode_arguments(*args, **kwargs))

    del call.__isabstractmethod__  # type: ignore[attr-defined]  # copied by `wraps`
    return call


@forwarding
class RemoteScheduler(
    Scheduler,
    NamespaceOperations,
    ScheduleOperations,
    TriggerOperations,
    SnapshotOperations,
    StateOperations,
    LogOperations,
    DeadLetterOperations,
    ExplanationOperations,
):
    """Passes each call on to the server at `server_address`, or to the one of several that answers.

    While no server answers, a call is repeated under one request id, so that it takes place once;
    then `UnavailableError`. A server that is being restarted is not noticed.

    Args:
        server_address: `host:port`; several, separated by commas, for fail-over.
        timeout: seconds in which one call is to be answered; longer is a `WaitTimeoutError`.
        patience: seconds for which a call is repeated when the server does not answer.
    """

    def __init__(
        self,
        server_address: str = "localhost:50051",
        timeout: float = 30.0,
        patience: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._address = server_address
        self._timeout = timeout
        self._patience = patience
        self._clock = clock or Clock()
        addresses = [part.strip() for part in server_address.split(",") if part.strip()]
        if not addresses:
            raise ConfigError(
                "The address of the AIFlow server is empty.",
                next_step="Set server_address in aiflow_client.yaml, for example localhost:50051.",
            )
        self._channels = [grpc.insecure_channel(address, _OPTIONS) for address in addresses]
        self._current = 0

    def close(self) -> None:
        """Close the connections. Idempotent."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Method, body: bytes) -> Any:
        metadata = ((REQUEST_ID, current_request_id()),)
        deadline = self._clock.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            asked = self._current
            send: Callable[..., bytes] = self._channels[asked].unary_unary(method.path)
            try:
                return method.decode_reply(send(body, timeout=self._timeout, metadata=metadata))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise self._explained(method, error) from error
                if self._clock.monotonic() + pause > deadline:
                    raise UnavailableError(
                        f"The AIFlow server at {self._address} does not answer.",
                        next_step="Start it with `aiflow server start -d`, or set server_address "
                        "in aiflow_client.yaml.",
                    ) from error
            # Whatever other threads have found meanwhile: this one did not answer.
            self._current = (asked + 1) % len(self._channels)
            self._clock.wait(threading.Event(), pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _explained(self, method: Method, error: Any) -> AIFlowError:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return WaitTimeoutError(
                f"The AIFlow server at {self._address} did not answer {method.name} within "
                f"{self._timeout:g} seconds.",
                next_step="It may still carry it out.",
            )
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return AIFlowError(
                f"What answers at {self._address} does not know {method.name}.",
                next_step="Is it an AIFlow server, and of this version?",
            )
        return AIFlowError(
            f"The AIFlow server at {self._address} refused {method.name}: {error.details()}."
        )
