"""Events: what stands in the log, and how a reader says which ones he wants."""

import json
import os
import uuid
from enum import StrEnum
from typing import Any

import msgspec

from aiflow_core.model.serialization import Value

ANY_KEY = "*"


class EventType(StrEnum):
    """Who speaks in an event. Only USER events come from outside the deployment."""

    USER = "USER"
    TASK_STATUS = "TASK_STATUS"
    WORKFLOW_STATUS = "WORKFLOW_STATUS"
    COMMAND = "COMMAND"
    TIMER = "TIMER"
    ANSWER = "ANSWER"


class Event(Value, forbid_unknown_fields=False, frozen=True):
    """One entry of the log.

    `id` makes appending idempotent: the producer chooses it once and repeats it on every retry.
    `offset` (from 1, gapless, in commit order) and `create_time` (milliseconds since the epoch,
    never smaller than that of the event before) are given by the store.
    """

    key: str
    value: str | None = None
    namespace: str = ""
    sender: str = ""
    context: str = ""
    type: EventType = EventType.USER
    id: str = ""
    offset: int = 0
    create_time: int = 0

    @property
    def workflow_execution_id(self) -> int | None:
        """The execution that the event is meant for; None: every execution of the namespace."""
        if not self.context:
            return None
        try:
            found = json.loads(self.context).get("workflow_execution_id")
            return None if found is None else int(found)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            # The context is the sender's own text; only this one form of it means something here.
            return None

    @property
    def characters(self) -> int:
        """How large it is, of all that may be large."""
        return len(self.key) + len(self.value or "") + len(self.context) + len(self.sender)

    @property
    def payload(self) -> Any:
        """The value as JSON; one that is no JSON is the text that it is."""
        return None if self.value is None else parse_payload(self.value)


class EventFilter(Value, frozen=True):
    """Which events a reader wants; everything unset matches everything.

    `keys` may hold `*` as a wildcard for any run of characters.
    """

    keys: tuple[str, ...] = ()
    namespace: str | None = None
    sender: str | None = None
    types: tuple[EventType, ...] = ()

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted."""
        return (
            (self.namespace is None or self.namespace == event.namespace)
            and (self.sender is None or self.sender == event.sender)
            and (not self.types or event.type in self.types)
            and (not self.keys or any(key_matches(key, event.key) for key in self.keys))
        )


EVERYTHING = EventFilter()


def key_matches(pattern: str, key: str) -> bool:
    """Whether `key` fits `pattern`, in which `*` stands for any run of characters."""
    if ANY_KEY not in pattern:
        return pattern == key
    head, *middle, tail = pattern.split(ANY_KEY)
    if not key.startswith(head) or len(key) < len(head) + len(tail) or not key.endswith(tail):
        return False
    position, end = len(head), len(key) - len(tail)
    for part in middle:
        found = key.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def hears(pattern: str, event: Event) -> bool:
    """Whether a rule that waits for the key `pattern` is concerned by the event.

    The events in which AIFlow itself tells of statuses are heard only by a pattern that begins with
    the same word (`task_status.*`): a task that starts on `*` would otherwise start on its own end.
    """
    if event.type is not EventType.USER:
        word, dot, _ = event.key.partition(".")
        if not pattern.startswith(word + dot):
            return False
    return key_matches(pattern, event.key)


def parse_payload(value: str) -> Any:
    """See `Event.payload`."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return value


def new_event_id() -> str:
    """An id for an event that a producer makes up on the spot."""
    return os.urandom(16).hex()


def derived_event_id(*parts: object) -> str:
    """An id that the same facts always give again, so that a repeat is recognised as one."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join(map(str, parts))).hex
