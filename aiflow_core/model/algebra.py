"""The event algebra: patterns of events, as data.

A pattern turns the events of a rule into *matches*; each match holds the events that made it. What
the patterns mean is told in `docs/reference/event-algebra.md`. They are evaluated in the server by
whoever schedules; nothing here is.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from aiflow_core.errors import DefinitionError
from aiflow_core.model import payload
from aiflow_core.model.event import Event, hears
from aiflow_core.model.payload import Test, check_path, check_test
from aiflow_core.model.serialization import Value

MOST_KEPT = 1000
"""Events that one rule keeps at most while they wait for others; the oldest go first."""

MOST_KEPT_CHARACTERS = 4 * 1024 * 1024
"""The same, of the characters of all their fields."""

MOST_PARTS = 100
"""Patterns of which one may be made."""

LONGEST_SECONDS = 366 * 24 * 3600

Seconds = float | timedelta
By = str | tuple[str, ...] | list[str]

P = TypeVar("P", bound="_Pattern")


class Consume(StrEnum):
    """What a match takes of what is kept for each part."""

    ALL = "all"
    LATEST = "latest"
    FIRST = "first"


class _Pattern(Value, frozen=True):
    @property
    def parts(self) -> tuple["Pattern", ...]:
        """The patterns of which this one is made."""
        return ()

    @property
    def expect_event_keys(self) -> list[str]:
        return list(dict.fromkeys(k for part in self.parts for k in part.expect_event_keys))

    def __str__(self) -> str:
        shown = [str(part) for part in self.parts]
        for name in ("n", "max", "within", "seconds", "by", "distinct", "consume"):
            value = getattr(self, name, None)
            if value not in (None, (), "", Consume.ALL):
                shown.append(f"{name}={'+'.join(value) if name == 'by' else value}")
        return f"{self.__struct_config__.tag}({', '.join(shown)})"


class EventPattern(_Pattern, tag="event_pattern", frozen=True):
    """Each event with this key (`*` is a wildcard) that passes all tests is a match."""

    key: str
    tests: tuple[Test, ...] = ()

    @property
    def expect_event_keys(self) -> list[str]:
        return [self.key]

    def where(self, tests: Mapping[str, Any] | None = None, **of_value: Any) -> "EventPattern":
        """The same events, as far as they pass these tests as well.

        Args:
            tests: `{path: value or comparison}`, for example `{"value.rows": gt(100)}`.
            of_value: the same of fields of the value: `where(status="ok")` is
                `where({"value.status": "ok"})`.
        """
        wanted = {**(tests or {}), **{f"value.{k}": v for k, v in of_value.items()}}
        narrowed = EventPattern(self.key, self.tests + payload.tests(wanted))
        return _checked(narrowed)

    def matches(self, event: Event) -> bool:
        """Whether the event is a match."""
        return hears(self.key, event) and all(test.holds(event) for test in self.tests)

    def __str__(self) -> str:
        return self.key


class AllOf(_Pattern, tag="all_of", frozen=True):
    """See `all_of`."""

    parts: tuple["Pattern", ...]
    within: float | None = None
    by: tuple[str, ...] = ()
    consume: Consume = Consume.ALL


class AnyOf(_Pattern, tag="any_of", frozen=True):
    """See `any_of`."""

    parts: tuple["Pattern", ...]


class InOrder(_Pattern, tag="sequence", frozen=True):
    """See `sequence`."""

    parts: tuple["Pattern", ...]
    within: float | None = None
    by: tuple[str, ...] = ()
    consume: Consume = Consume.ALL


class _Narrowed(_Pattern, frozen=True):
    """A pattern made of one other."""

    part: "Pattern"

    @property
    def parts(self) -> tuple["Pattern", ...]:
        return (self.part,)


class Count(_Narrowed, tag="count", frozen=True):
    """See `count`."""

    n: int
    within: float | None = None
    by: tuple[str, ...] = ()
    distinct: str = ""


class Absent(_Narrowed, tag="absent", frozen=True):
    """See `absent`."""

    after: "Pattern"
    within: float
    by: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple["Pattern", ...]:
        return (self.part, self.after)


class Debounce(_Narrowed, tag="debounce", frozen=True):
    """See `debounce`."""

    seconds: float
    by: tuple[str, ...] = ()


class Throttle(_Narrowed, tag="throttle", frozen=True):
    """See `throttle`."""

    seconds: float
    by: tuple[str, ...] = ()


class Batch(_Narrowed, tag="batch", frozen=True):
    """See `batch`."""

    max: int | None = None
    within: float | None = None
    by: tuple[str, ...] = ()


class Each(_Narrowed, tag="each", frozen=True):
    """See `each`."""


Pattern = (
    EventPattern | AllOf | AnyOf | InOrder | Count | Absent | Debounce | Throttle | Batch | Each
)

Modifier = Debounce | Throttle | Batch | Each
"""Patterns that lose no match: of a rule that is one of these, matches wait while the task runs."""


# --- what authors write --------------------------------------------------------------------------


def event(key: str) -> EventPattern:
    """Each event with this key; `*` is a wildcard. `.where(...)` looks at what it carries."""
    return _checked(EventPattern(key))


def all_of(
    *parts: Pattern,
    within: Seconds | None = None,
    by: By = (),
    consume: str = Consume.ALL,
) -> AllOf:
    """Met when each of the parts has been met, in any order, all within so many seconds.

    Args:
        within: seconds from the first event of a match to its last.
        by: fields of the events; what has different values there has nothing to do with each other.
        consume: what a match takes of each part: `all` that is kept, only the `latest` (what is
            older is forgotten), or only the `first` (what is newer waits for the next match).
    """
    return _checked(AllOf(parts, _seconds(within), _fields(by), _consume(consume)))


def any_of(*parts: Pattern) -> AnyOf:
    """Met whenever one of the parts is."""
    return _checked(AnyOf(parts))


def sequence(
    *parts: Pattern,
    within: Seconds | None = None,
    by: By = (),
    consume: str = Consume.ALL,
) -> InOrder:
    """Met when the parts, which are single events, have come in this order. Others may come in
    between. For `within`, `by` and `consume` see `all_of`."""
    return _checked(InOrder(parts, _seconds(within), _fields(by), _consume(consume)))


def count(
    part: Pattern,
    n: int,
    *,
    within: Seconds | None = None,
    by: By = (),
    distinct: str = "",
) -> Count:
    """Met when the part has been met `n` times; then it starts anew.

    Args:
        within: seconds from the first event of a match to its last.
        by: see `all_of`.
        distinct: a field; an event with a value that was counted already does not count.
    """
    return _checked(Count(part, n, _seconds(within), _fields(by), distinct))


def absent(part: Pattern, *, after: Pattern, within: Seconds, by: By = ()) -> Absent:
    """Met when `within` seconds have passed since `after` was met without the part being met. The
    match holds the events of `after`."""
    return _checked(Absent(part, after, _required(within), _fields(by)))


def debounce(part: Pattern, seconds: Seconds, *, by: By = ()) -> Debounce:
    """Met when the part has not been met for so long, with all that it was met by until then."""
    return _checked(Debounce(part, _required(seconds), _fields(by)))


def throttle(part: Pattern, seconds: Seconds, *, by: By = ()) -> Throttle:
    """Met at once, and then not again for so long; what comes meanwhile is one match at the end."""
    return _checked(Throttle(part, _required(seconds), _fields(by)))


def batch(
    part: Pattern, *, max: int | None = None, within: Seconds | None = None, by: By = ()
) -> Batch:
    """Met when the part has been met `max` times, or `within` seconds after it was met first."""
    return _checked(Batch(part, max, _seconds(within), _fields(by)))


def each(part: Pattern) -> Each:
    """Met whenever the part is; matches wait while the task runs, and each starts it once."""
    return _checked(Each(part))


# --- checks --------------------------------------------------------------------------------------


def check_pattern(pattern: Pattern) -> None:
    """Raise `DefinitionError` for a pattern that cannot be meant, or is too large."""
    nodes = list(_walk(pattern))
    if len(nodes) > MOST_PARTS:
        raise DefinitionError(f"A pattern has more than {MOST_PARTS} parts.")
    for node in nodes:
        _check_node(node)
        if isinstance(node, Each) and node is not pattern:
            raise DefinitionError(
                "each(...) stands within another pattern, and it says how a rule acts.",
                next_step="Write it around the whole pattern, or leave it out.",
            )


def _walk(pattern: Pattern) -> Iterator[Pattern]:
    waiting = [pattern]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, _Pattern):
            raise DefinitionError(
                f"{node!r} is not a pattern of events.", next_step="Use event('key')."
            )
        yield node
        waiting += node.parts


def _check_node(node: Pattern) -> None:
    name = node.__struct_config__.tag
    if not isinstance(node, EventPattern) and not node.parts:
        raise DefinitionError(f"{name}() has no parts.", next_step="Give it an event('key').")
    for span in ("within", "seconds"):
        seconds = getattr(node, span, None)
        if seconds is not None and not 0.001 <= seconds <= LONGEST_SECONDS:
            raise DefinitionError(
                f"{span} of {name} is {seconds!r}.",
                next_step=f"It is 0.001 to {LONGEST_SECONDS} seconds.",
            )
    for path in getattr(node, "by", ()):
        check_path(path)
    match node:
        case EventPattern(key, tests):
            if not isinstance(key, str) or not key:
                raise DefinitionError(f"{key!r} is not the key of an event.")
            for test in tests:
                check_test(test)
        case InOrder(parts):
            _check_order(parts)
        case Count(n=n, distinct=distinct):
            _check_number("n of count", n)
            if distinct:
                check_path(distinct)
        case Batch(max=limit):
            if limit is None and node.within is None:
                raise DefinitionError(
                    "A batch has neither max nor within, and would never be met.",
                    next_step="Say when it is full or how long it waits.",
                )
            if limit is not None:
                _check_number("max of batch", limit)


def _check_order(parts: tuple[Pattern, ...]) -> None:
    for part in parts:
        kinds = part.parts if isinstance(part, AnyOf) else (part,)
        if not all(isinstance(kind, EventPattern) for kind in kinds):
            raise DefinitionError(
                f"The part {part} of a sequence is not a single event.",
                next_step="Use event('key') or any_of(event(...), ...) as parts of a sequence.",
            )


def _check_number(what: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_KEPT:
        raise DefinitionError(f"{what} is {number!r}.", next_step=f"It is 1 to {MOST_KEPT}.")


def _checked(pattern: P) -> P:
    check_pattern(pattern)  # type: ignore[arg-type]
    return pattern


def _consume(word: str) -> Consume:
    try:
        return Consume(word)
    except ValueError:
        raise DefinitionError(
            f"consume is {word!r}.", next_step="It is 'all', 'latest' or 'first'."
        ) from None


def _seconds(given: Seconds | None) -> float | None:
    return None if given is None else _required(given)


def _required(given: Seconds) -> float:
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise DefinitionError(f"{given!r} is not a number of seconds.")
    return float(given)


def _fields(by: By) -> tuple[str, ...]:
    return (by,) if isinstance(by, str) else tuple(by)
