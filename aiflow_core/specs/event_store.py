"""EventStore: the one ordered log of a deployment."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from aiflow_core.errors import UsageError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, EventType
from aiflow_core.model.serialization import Value

# Characters; so much fits into a column with a unique index in every SQL database.
LONGEST = {"id": 255, "key": 1024, "namespace": 255, "sender": 1024}
MAX_EVENT_BYTES = 1024 * 1024

PAGE_CHARACTERS = 1024 * 1024
# What a page may hold at worst, when large events follow upon small ones, is this many of them.
_LONGEST_PAGE = 256


class Subscription(ABC):
    """Events as they are appended; iterate over it, close it from any thread.

    Yields non-empty lists of events in offset order: every wanted event once, none left out,
    however slowly they are taken. Survives a restart of a remote store by reconnecting, and keeps
    trying until it is closed; closing ends the iteration.
    """

    @abstractmethod
    def __iter__(self) -> Iterator[list[Event]]: ...

    @abstractmethod
    def close(self) -> None:
        """End the iteration, also one that is waiting in another thread. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


class EventStore(ABC):
    """An append-only log.

    Offsets begin at 1, have no gaps and stand in commit order: once a reader has seen offset n, no
    event with a smaller offset will ever appear. `create_time` never decreases along the log.
    All methods may be called from any thread.

    Errors: `UnavailableError` when the store cannot be reached or has no room; the same call may be
    repeated. `UsageError` when an event is not acceptable (say, too large).
    """

    @abstractmethod
    def append(self, events: Sequence[Event]) -> list[Event]:
        """Append all the events or none, in this order, and return them as they now stand.

        Durable before it returns. Idempotent by `id`: an event whose id is in the log already is
        not appended again, and the stored one is returned in its place. An event without an id is
        given one. `offset` and `create_time` of the arguments are ignored.
        """

    @abstractmethod
    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        """The first `limit` wanted events with `after < offset <= until`, in offset order."""

    @abstractmethod
    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> Subscription:
        """All wanted events with `offset > after`: those that are there, then those that come."""

    @abstractmethod
    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        """How many wanted events with `after < offset <= until`, by sender."""

    @abstractmethod
    def head(self) -> int:
        """The offset of the newest event, 0 when there never was one."""

    @abstractmethod
    def offset_at(self, time_ms: int) -> int:
        """The offset of the last event created before `time_ms` (milliseconds since the epoch), so
        that reading after it yields what was created at or after that time."""

    @abstractmethod
    def truncate(self, before: int) -> int:
        """Delete the events with `offset < before`; how many went. Their offsets are never given
        again, and their ids are forgotten."""

    def close(self) -> None:  # noqa: B027  (most stores have something to close, not all)
        """Release what the store holds; ends its subscriptions. Idempotent."""


class PageSize:
    """How many events to read at once, so that one who reads a long log holds little of it.

    Events may be a million times as large as others, and a log is asked for a number of them. So a
    reader begins with few, and then asks for as many as make `PAGE_CHARACTERS`, should they be
    like those before.

    Attributes:
        limit: how many to read next.
    """

    def __init__(self) -> None:
        self.limit = 16

    def saw(self, events: Sequence[Event]) -> None:
        """These have been read."""
        average = sum(map(characters, events)) / max(len(events), 1)
        fit = int(PAGE_CHARACTERS / max(average, 1))
        self.limit = max(1, min(fit, 2 * self.limit, _LONGEST_PAGE))


def characters(event: Event) -> int:
    """The length of what can be long in an event; about the room that it takes."""
    return len(event.key) + len(event.value or "") + len(event.context)


class Member(Value, frozen=True):
    """A server of a log.

    Attributes:
        uri: `host:port` at which clients reach it.
        seen_ms: when it last said that it lives, in milliseconds since the epoch.
    """

    uri: str
    seen_ms: int


class KeepsMembers(ABC):
    """What an event store offers beside its contract when several servers may serve it: there they
    learn of each other. It is told for the sake of clients; the log needs no server to lead.

    Errors: `UnavailableError`, as of the event store.
    """

    @abstractmethod
    def join(self, uri: str, ttl_ms: int) -> None:
        """The server at `uri` lives, and counts as living for `ttl_ms` milliseconds of the store's
        own time. It says so again before they are over."""

    @abstractmethod
    def leave(self, uri: str) -> None:
        """The server at `uri` stops."""

    @abstractmethod
    def members(self) -> list[Member]:
        """The servers that live, by `uri`."""


def check_event(event: Event, max_bytes: int = MAX_EVENT_BYTES) -> None:
    """Raise `UsageError` unless every store can keep the event and give it back as it is.

    `max_bytes` limits its texts together, in UTF-8.
    """
    texts = {name: getattr(event, name) for name in _TEXTS}
    if texts["value"] is None:
        texts["value"] = ""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise _refusal(event, f"its {name} is {type(text).__name__}, not text")
        if "\0" in text:
            raise _refusal(event, f"its {name} holds a NUL character")
    for name, most in LONGEST.items():
        if len(texts[name]) > most:
            raise _refusal(
                event, f"its {name} has {len(texts[name])} characters, at most {most} are allowed"
            )
    try:
        size = len("".join(texts.values()).encode())
    except UnicodeEncodeError as error:
        raise _refusal(event, f"it is not valid Unicode, {error.reason}") from error
    if size > max_bytes:
        raise _refusal(
            event,
            f"it has {size} bytes, at most {max_bytes} are allowed",
            next_step="Keep the data elsewhere and send a reference to them.",
        )
    if not isinstance(event.type, EventType):
        raise _refusal(event, f"its type {event.type!r} is not an EventType")


_TEXTS = ("id", "key", "value", "namespace", "sender", "context")


def _refusal(event: Event, why: str, next_step: str = "") -> UsageError:
    return UsageError(f"The event {str(event.key)[:80]!r} is refused: {why}.", next_step=next_step)
