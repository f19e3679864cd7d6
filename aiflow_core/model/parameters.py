"""`${event.value.day}` in the parameters of a task: fields of the event that started it.

Inside any text among the parameters stands `${event.` with the path of a field, see
`aiflow_core.model.payload`, and `}`. A text is put in as it is, anything else as JSON. `$${event.`
stands for `${event.` itself. Nothing else is replaced.
"""

import re
from collections.abc import Sequence
from typing import Any

from aiflow_core.errors import AIFlowError
from aiflow_core.model.event import Event
from aiflow_core.model.payload import MISSING, field
from aiflow_core.model.serialization import encode

_PLACEHOLDER = re.compile(r"(\$?)\$\{event\.([^}]*)\}")


def mentions_event(value: Any) -> bool:
    """Whether a text in the value, a list, tuple or dict of them, has `${event.` in it."""
    match value:
        case str():
            return _PLACEHOLDER.search(value) is not None
        case list() | tuple():
            return any(map(mentions_event, value))
        case dict():
            return any(map(mentions_event, value.values()))
        case _:
            return False


def fill(value: Any, events: Sequence[Event]) -> Any:
    """The value, with the fields of the latest of the events in their places.

    `AIFlowError` when there is no event, or no such field in it.
    """
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda found: _text(found, events), value)
        case list():
            return [fill(v, events) for v in value]
        case tuple():
            return tuple(fill(v, events) for v in value)
        case dict():
            return {k: fill(v, events) for k, v in value.items()}
        case _:
            return value


def _text(found: re.Match[str], events: Sequence[Event]) -> str:
    escaped, path = found.groups()
    if escaped:
        return found[0][1:]
    if not events:
        raise AIFlowError(
            f"A parameter is to hold {found[0]}, and the task was started by no event.",
            next_step="Start it by an event, or leave the parameter out.",
        )
    event = events[-1]
    value = event.value if path == "value" else field(event, path)
    if value is MISSING or (path == "value" and value is None):
        raise AIFlowError(
            f"A parameter is to hold {found[0]}, and event {event.offset} ({event.key}), which "
            "started the task, has no such field.",
            next_step="Let the rule look for it, with `.where(...)` and `present()`.",
        )
    return value if isinstance(value, str) else encode(value).decode()
