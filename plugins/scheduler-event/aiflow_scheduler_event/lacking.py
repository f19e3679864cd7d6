"""What a pattern still lacks: which of its parts have not been met, and since when the others wait.

PURE, as the automaton is whose memory is read here.
"""

from datetime import datetime

import msgspec

from aiflow_core.clock import to_datetime
from aiflow_core.model.algebra import (
    Absent,
    AllOf,
    AnyOf,
    Batch,
    Count,
    Debounce,
    Each,
    EventPattern,
    InOrder,
    Pattern,
    Throttle,
)
from aiflow_core.model.condition import Lack
from aiflow_core.model.event import Event
from aiflow_core.model.payload import Operator, Test
from aiflow_core.model.serialization import decode
from aiflow_scheduler_event.pattern_memory import Cell, Item, Memory, expire, group_name, ms

Lacks = tuple[Lack, ...]


def remembered(memory: str | None) -> Cell:
    """What an automaton remembers of the whole pattern, from what is kept of it."""
    return Cell() if memory is None else decode(memory, Memory).root


def lacks(pattern: Pattern, cell: Cell, now: int, event: Event | None = None) -> Lacks:
    """What is needed for the next match; all of it, in the order in which it can come.

    Args:
        cell: what is remembered, see `remembered` and `Look.root`. What has become too old until
            `now` is dropped from it.
        event: the one that was looked at: of the values of `by`, what its own lack is told. None:
            what that value lacks which has waited longest.
    """
    expire(pattern, cell, now)
    by = getattr(pattern, "by", ())
    if not by:
        return _of(pattern, cell, now, event)
    waiting = _waiting(pattern, cell, now, None if event is None else group_name(event, by))
    if not waiting:
        alike = f"of one {' and '.join(by)}"
        return tuple(_told(lack, alike) for lack in _of(pattern, Cell(), now, event))
    name = min(waiting, key=lambda name: min(waiting[name].refs))
    alike = f"of {_value_of(by, name)}"
    if len(waiting) > 1:
        alike += f" (and so for {len(waiting) - 1} more)"
    return tuple(_told(lack, alike) for lack in _of(pattern, waiting[name], now, event))


def _waiting(pattern: Pattern, cell: Cell, now: int, only: str | None) -> dict[str, Cell]:
    """What is remembered for the values of `by`, or for one, as far as something waits there."""
    found = {}
    for name in cell.groups if only is None else cell.groups.keys() & {only}:
        inner = msgspec.json.decode(cell.groups[name].cell, type=Cell)
        expire(pattern, inner, now)
        if inner.refs:
            found[name] = inner
    return found


def _value_of(by: tuple[str, ...], name: str) -> str:
    if not name.startswith("["):
        return f"one {' and '.join(by)}"  # a long value, of which only the hash is known
    values = [msgspec.json.encode(value).decode() for value in msgspec.json.decode(name)]
    return " and ".join(f"{path} {value}" for path, value in zip(by, values, strict=True))


def _of(pattern: Pattern, cell: Cell, now: int, event: Event | None) -> Lacks:
    parts = [
        lacks(part, inner, now, event)
        for part, inner in zip(pattern.parts, cell.parts or map(_unmet, pattern.parts), strict=True)
    ]
    shelf = cell.kept[0] if cell.kept else []
    match pattern:
        case EventPattern():
            return (_an_event(pattern),)
        case AnyOf():
            return (_either(parts),)
        case AllOf(within=within):
            shelves = cell.kept or [[] for _ in parts]
            missing = [part for part, met in zip(parts, shelves, strict=True) if not met]
            return _waited_for(sum(missing, ()), [i for met in shelves for i in met], within)
        case InOrder(within=within):
            return _rest_of(parts, cell, within)
        case Count(n=n, distinct=distinct, within=within):
            more = _more_of(n - len(shelf), n, parts[0])
            if distinct:
                more = _told(more, f"with another {distinct} each")
            return _waited_for((more,), shelf, within)
        case Absent(within=within):
            return _absence(pattern, cell, parts)
        case Debounce(seconds=seconds):
            quiet = f"{seconds:g} s without {_all(parts[0])}"
            return _then(parts[0], quiet, shelf, cell.until)
        case Throttle(seconds=seconds) if shelf:
            pause = f"the end of the {seconds:g} s since it was met last"
            return _then(parts[0], pause, shelf, cell.until)
        case Batch():
            return _batch(pattern, cell, parts[0])
        case Throttle() | Each():
            return parts[0]
    raise TypeError(f"{pattern} lacks something else")


def _unmet(_: Pattern) -> Cell:
    return Cell()


def _rest_of(parts: list[Lacks], cell: Cell, within: float | None) -> Lacks:
    """What a sequence lacks from the last part on which something waits."""
    reached = max((place for place, met in enumerate(cell.kept) if met), default=-1)
    first, *later = parts[reached + 1 :]
    rest = first + tuple(
        msgspec.structs.replace(lack, text=f"then {lack.text}") for part in later for lack in part
    )
    return _waited_for(rest, cell.kept[reached] if reached >= 0 else [], within)


def _absence(pattern: Absent, cell: Cell, parts: list[Lacks]) -> Lacks:
    unwanted, after = parts
    shelf = cell.kept[0] if cell.kept else []
    quiet = f"{pattern.within:g} s without {_all(unwanted)}"
    return _then(after, quiet, shelf, cell.until)


def _batch(pattern: Batch, cell: Cell, part: Lacks) -> Lacks:
    shelf = cell.kept[0] if cell.kept else []
    end = "" if pattern.within is None else f"the end of {pattern.within:g} s"
    if pattern.max is None:
        return _then(part, end, shelf, cell.until)
    more = _more_of(pattern.max - len(shelf), pattern.max, part)
    if end:
        more = _told(more, f"or {end}" if shelf else f"or once and {end}")
    return _waited_for((more,), shelf, None, cell.until)


def _then(first: Lacks, quiet: str, shelf: list[Item], until: list[int]) -> Lacks:
    """What is lacked where a time begins when the first has come: that, or its end."""
    if not shelf:
        return (*first, Lack(f"then {quiet}"))
    return _waited_for((Lack(quiet),), shelf, None, until)


def _waited_for(
    found: Lacks, waiting: list[Item], within: float | None, until: list[int] | None = None
) -> Lacks:
    """The same, with the times of what waits for it."""
    if not waiting:
        return found
    first = min(item.since for item in waiting)
    before = None if within is None else first + ms(within)
    return tuple(
        msgspec.structs.replace(
            lack,
            since=_earlier(lack.since, to_datetime(first)),
            before=_earlier(lack.before, None if before is None else to_datetime(before)),
            until=to_datetime(until[0]) if until else lack.until,
        )
        for lack in found
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


# --- words ---------------------------------------------------------------------------------------


def _an_event(pattern: EventPattern) -> Lack:
    text = f"an event with key {pattern.key!r}"
    if pattern.tests:
        text += f" and {' and '.join(map(_test, pattern.tests))}"
    return Lack(text, (pattern.key,))


_SIGNS = {
    Operator.EQ: "=",
    Operator.NE: "other than",
    Operator.GT: ">",
    Operator.GE: ">=",
    Operator.LT: "<",
    Operator.LE: "<=",
    Operator.ONE_OF: "one of",
}


def _test(test: Test) -> str:
    if test.operator is Operator.PRESENT:
        return f"{'a' if test.value else 'no'} {test.path}"
    return f"{test.path} {_SIGNS[test.operator]} {msgspec.json.encode(test.value).decode()}"


def _more_of(left: int, n: int, part: Lacks) -> Lack:
    return msgspec.structs.replace(_either([part]), text=f"{_times(left, n)} {_all(part)}")


def _times(left: int, n: int) -> str:
    if left == n:
        return "once" if n == 1 else f"{n} times"
    return f"{left} of {n} times"


def _either(each: list[Lacks]) -> Lack:
    keys = dict.fromkeys(key for found in each for lack in found for key in lack.event_keys)
    lacking = [lack for found in each for lack in found]
    since: datetime | None = None
    for lack in lacking:
        since = _earlier(since, lack.since)
    return Lack(" or ".join(map(_all, each)), tuple(keys), since=since)


def _all(found: Lacks) -> str:
    return " and ".join(lack.text for lack in found)


def _told(lack: Lack, more: str) -> Lack:
    return msgspec.structs.replace(lack, text=f"{lack.text} {more}")
