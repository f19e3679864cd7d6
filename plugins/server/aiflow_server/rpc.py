"""The protocol: what follows from the scheduler's contracts, and nothing that is written by hand.

Each public method of each contract but `start` is the unary gRPC method
`/aiflow.Scheduler/<method>`. The request is a JSON object of the method's arguments, the reply a
JSON object with either `result` or `error` (an error's code and facts). The metadata
`aiflow-request-id` names the request, so that it may be repeated.
"""

import inspect
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from aiflow_core.errors import AIFlowError, UsageError
from aiflow_core.model.serialization import encode
from aiflow_core.specs.scheduler import CONTRACTS

SERVICE = "aiflow.Scheduler"
REQUEST_ID = "aiflow-request-id"


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What comes back: a result or the facts of an error."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """One method of a contract, and how its arguments and its result travel."""

    name: str
    contract: type[ABC]

    @property
    def path(self) -> str:
        return f"/{SERVICE}/{self.name}"

    @cached_property
    def function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self.contract, self.name)
        return function

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def _types(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _arguments(self) -> msgspec.json.Decoder[msgspec.Struct]:
        fields: list[Any] = []
        for name, parameter in list(self.signature.parameters.items())[1:]:
            given = () if parameter.default is parameter.empty else (parameter.default,)
            fields.append((name, self._types[name], *given))
        struct = msgspec.defstruct(self.name, fields, kw_only=True, forbid_unknown_fields=True)
        return msgspec.json.Decoder(struct)

    @cached_property
    def _result(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self._types["return"])

    def encode_arguments(self, *args: Any, **kwargs: Any) -> bytes:
        """The request. `TypeError` as for any call with wrong arguments."""
        _, *arguments = self.signature.bind(None, *args, **kwargs).arguments.items()
        return encode(dict(arguments))

    def decode_arguments(self, request: bytes) -> dict[str, Any]:
        """The keywords to call the method with; `UsageError` when they do not fit."""
        try:
            return msgspec.structs.asdict(self._arguments.decode(request))
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise UsageError(f"The arguments of {self.name} are wrong: {error}.") from error

    def decode_reply(self, reply: bytes) -> Any:
        """The result, or the error raised."""
        answer = _reply.decode(reply)
        if answer.error is not None:
            raise AIFlowError.from_wire(answer.error)
        return self._result.decode(answer.result)


def encode_result(result: Any) -> bytes:
    """The reply to a call that went well."""
    return encode(Reply(result=msgspec.Raw(encode(result))))


def encode_error(error: AIFlowError) -> bytes:
    """The reply to a call that went wrong."""
    return encode(Reply(error=error.to_wire()))


_reply = msgspec.json.Decoder(Reply)

METHODS: dict[str, Method] = {
    name: Method(name, contract)
    for contract in CONTRACTS
    for name in vars(contract)
    if not name.startswith("_") and name != "start"
}
