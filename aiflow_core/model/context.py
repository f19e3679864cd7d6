"""What a condition and a running task can ask about their surroundings."""

import base64
import json
from abc import ABC, abstractmethod
from typing import Any

import msgspec

from aiflow_core.errors import UsageError
from aiflow_core.model.serialization import is_plain
from aiflow_core.model.status import TaskStatus

LONGEST_NAME = 200
"""Characters in the name of a state."""


class ValueStateDescriptor(msgspec.Struct, frozen=True):
    """Names one state. The state belongs to the workflow execution (task rules) or the workflow
    (triggers); two conditions that use one name share it."""

    name: str


class ValueState:
    """One value that outlives a condition's evaluation."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def value(self) -> Any:
        """The value last given to `update`, None before that and after `clear`."""
        return self._value

    def update(self, state: Any) -> None:
        """Keep this value. It becomes durable together with the outcome of the condition."""
        self._value = state

    def clear(self) -> None:
        """Forget the value."""
        self._value = None


class Context(ABC):
    """The surroundings of a condition that is being evaluated, or of a task that runs."""

    @abstractmethod
    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState:
        """The state of that name; the same object each time during one evaluation."""

    @abstractmethod
    def get_task_status(self, task_name: str) -> TaskStatus | None:
        """Status of the task's latest execution, None when it has none."""


def check_state_name(name: str) -> None:
    """Raise `UsageError` unless every scheduler can keep a state of this name."""
    if len(name) > LONGEST_NAME or "\0" in name or not _is_unicode(name):
        raise UsageError(
            f"{name[:80]!r} is not a name for a state.",
            next_step=f"Use at most {LONGEST_NAME} characters of Unicode, and no NUL.",
        )


def pack(value: Any) -> str | None:
    """A state's value as text: JSON where that keeps it as it is, a pickle elsewhere; None for
    None."""
    if value is None:
        return None
    if is_plain(value) and not _is_packed(value):
        return json.dumps(value)
    import cloudpickle

    return json.dumps({"pickle": base64.b64encode(cloudpickle.dumps(value)).decode()})


def unpack(text: str | None) -> Any:
    """The value that `pack` made a text of. Only where users' code runs, never in a server."""
    if text is None:
        return None
    value = json.loads(text)
    if not _is_packed(value):
        return value
    import cloudpickle

    return cloudpickle.loads(base64.b64decode(value["pickle"]))


def _is_packed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"pickle"}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
