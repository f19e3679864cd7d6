"""The one serializer: msgspec JSON, for the wire, for stored definitions and for output."""

from typing import Any, TypeVar

import msgspec

from aiflow_core.errors import UsageError

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every value that travels: frozen, unknown fields refused."""


def encode(value: Any) -> bytes:
    """JSON bytes of a value, list, mapping or scalar of the model."""
    return _encoder.encode(value)


def decode(data: bytes | str, type: type[T]) -> T:
    """The value in `data`, validated against `type`; `UsageError` says where it does not fit."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise UsageError(f"This is not a valid {_name(type)}: {error}.") from error


def to_plain(value: Any) -> Any:
    """The value as dicts, lists and scalars."""
    return msgspec.to_builtins(value)


def from_plain(data: Any, type: type[T]) -> T:
    """The value that `to_plain` took apart."""
    try:
        return msgspec.convert(data, type=type)
    except msgspec.ValidationError as error:
        raise UsageError(f"This is not a valid {_name(type)}: {error}.") from error


def is_plain(value: Any) -> bool:
    """Whether a value is plain data, so that it comes back from JSON as it went in."""
    match value:
        case None | bool() | int() | float() | str():
            return True
        case list():
            return all(map(is_plain, value))
        case dict():
            return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
        case _:
            return False


def _name(type: Any) -> str:
    return getattr(type, "__name__", str(type))
