"""Errors between server and client of the extension: a gRPC status, and the facts beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from aiflow_core.errors import AIFlowError, NoRoomError, UnavailableError, UsageError
from aiflow_core.model.serialization import decode, encode

_FACTS = "aiflow-error-bin"


class TooManyStreamsError(UnavailableError):
    """A server waits for as many clients as it is allowed to."""

    code = "too_many_streams"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The notification server already serves {limit} waiting clients, its limit.",
            next_step="Close listeners that are not needed, or raise the setting `max_streams`.",
        )


@contextmanager
def as_status(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn an error of AIFlow into the gRPC status that fits it."""
    try:
        yield
    except AIFlowError as error:
        context.set_trailing_metadata(((_FACTS, encode(error.to_wire())),))
        context.abort(_code(error), str(error))


def from_status(error: grpc.RpcError, server_uri: str) -> AIFlowError:
    """The error of AIFlow that a failed call stands for."""
    for item in error.trailing_metadata() or ():
        if item.key == _FACTS:
            return AIFlowError.from_wire(decode(item.value, dict[str, Any]))
    code, details = error.code(), error.details()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return UnavailableError(
            f"The notification server at {server_uri} does not answer.",
            next_step="Start it with `notification server start -d`.",
        )
    if code is grpc.StatusCode.CANCELLED:
        return UnavailableError(f"The connection to the notification server {server_uri} was cut.")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC's own, for either of two things, and only the words tell which.
        if "larger than max" in str(details):
            return UsageError(f"The notification server at {server_uri} refused this: {details}.")
        return UnavailableError(
            f"The notification server at {server_uri} has more calls than it can take: {details}",
            next_step="Try again later.",
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return AIFlowError(
            f"The server at {server_uri} is no notification server of this version of AIFlow.",
            next_step="Check the address, and upgrade the older of the two.",
        )
    return AIFlowError(f"The notification server at {server_uri} failed: {details}.")


def _code(error: AIFlowError) -> grpc.StatusCode:
    match error:
        case TooManyStreamsError() | NoRoomError():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case UnavailableError():
            return grpc.StatusCode.UNAVAILABLE
        case UsageError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case _:
            return grpc.StatusCode.INTERNAL
