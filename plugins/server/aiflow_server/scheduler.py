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
from aiflow_core.errors import AIFlowError, UnavailableError, WaitTimeoutError
from aiflow_core.specs.scheduler import (
    NamespaceOperations,
    ScheduleOperations,
    Scheduler,
    SnapshotOperations,
    TriggerOperations,
    current_request_id,
)
from aiflow_server.rpc import METHODS, REQUEST_ID, Method

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
    Scheduler, NamespaceOperations, ScheduleOperations, TriggerOperations, SnapshotOperations
):
    """Passes each call on to the server at `server_address`.

    While the server does not answer, a call is repeated under one request id, so that it takes
    place once; then `UnavailableError`. A server that is being restarted is not noticed.

    Args:
        server_address: `host:port`.
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
        self._channel = grpc.insecure_channel(
            server_address,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                # The pauses between tries are ours; the channel's own would outlast them.
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.enable_http_proxy", 0),
            ],
        )

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._channel.close()

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
        send: Callable[..., bytes] = self._channel.unary_unary(method.path)
        metadata = ((REQUEST_ID, current_request_id()),)
        deadline = self._clock.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
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
