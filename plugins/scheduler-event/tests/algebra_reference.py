"""What the patterns of the event algebra mean: from a whole history to all its matches, at once.

Written from `docs/reference/event-algebra.md`, and to be obviously right: nothing is forgotten,
there are no timers, and each pattern is a function of the streams of its parts.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

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
from aiflow_core.model.event import Event

Instant = tuple[int, int, int]
"""Milliseconds; 0 for the end of a window or 1 for an event; which event."""


class Seen(NamedTuple):
    """An event, by its number and time."""

    number: int
    time: int
    event: Event


class Hit(NamedTuple):
    """A match: when it came about, the numbers of its events, and the time of the first."""

    at: Instant
    numbers: tuple[int, ...]
    since: int


def matches(pattern: Pattern, history: list[Seen], until: int) -> list[Hit]:
    """All matches until that time."""
    by = getattr(pattern, "by", ())
    if not by:
        return _plain(pattern, history, until)
    groups: dict[str, list[Seen]] = {}
    for seen in history:
        values = [_value(seen.event, path) for path in by]
        if None not in values:
            groups.setdefault(json.dumps(values), []).append(seen)
    return sorted(hit for group in groups.values() for hit in _plain(pattern, group, until))


def _value(event: Event, path: str) -> Any:
    data = json.loads(event.value or "{}")
    return event.key if path == "key" else data.get(path.removeprefix("value."))


def _plain(pattern: Pattern, history: list[Seen], until: int) -> list[Hit]:
    if isinstance(pattern, EventPattern):
        return [Hit((s.time, 1, s.number), (s.number,), s.time) for s in history if _is(pattern, s)]
    if isinstance(pattern, InOrder):
        return _in_order(pattern, history)
    parts = [matches(part, history, until) for part in pattern.parts]
    match pattern:
        case AnyOf():
            found = sorted((hit for part in parts for hit in part), key=lambda hit: hit.at)
            return list(dict.fromkeys(found))
        case Each():
            found = parts[0]
        case AllOf():
            found = _all_of(pattern, parts)
        case Count():
            found = _count(pattern, parts[0], history)
        case Absent():
            found = _absent(pattern, *parts)
        case Debounce():
            found = _debounce(pattern, parts[0])
        case Throttle():
            found = _throttle(pattern, parts[0])
        case Batch():
            found = _batch(pattern, parts[0])
    return [hit for hit in found if hit.at[0] <= until]


def _is(pattern: EventPattern, seen: Seen) -> bool:
    return seen.event.key == pattern.key and all(
        _value(seen.event, test.path) == test.value for test in pattern.tests
    )


def _all_of(pattern: AllOf, parts: list[list[Hit]]) -> list[Hit]:
    found = []
    used: list[set[Hit]] = [set() for _ in parts]
    for at in sorted({hit.at for part in parts for hit in part}):
        while True:
            chosen = []
            for part, spent in zip(parts, used, strict=True):
                came = [hit for hit in part if hit.at <= at]
                if pattern.consume == "latest":
                    came = came[-1:]
                left = [h for h in came if h not in spent and _fits(h, at, pattern.within)]
                chosen.append(left[:1] if pattern.consume == "first" else left)
            if not all(chosen):
                break
            for spent, taken in zip(used, chosen, strict=True):
                spent.update(taken)
            found.append(_union(at, [hit for taken in chosen for hit in taken]))
    return found


def _in_order(pattern: InOrder, history: list[Seen]) -> list[Hit]:
    """Runs that have got so far, each with the hit that it is until now."""
    found: list[Hit] = []
    runs: list[tuple[int, Hit]] = []
    last = len(pattern.parts) - 1
    for seen in history:
        at = (seen.time, 1, seen.number)
        runs = [(got, hit) for got, hit in runs if _fits(hit, at, pattern.within)]
        for place in range(last, -1, -1):
            if not matches(pattern.parts[place], [seen], seen.time):
                continue
            before = [run for run in runs if run[0] == place - 1]
            beside = [run for run in runs if run[0] == place]
            if pattern.consume == "latest":
                taken, gone = before[-1:], before + (beside if before or place == 0 else [])
            elif pattern.consume == "first":
                taken, gone = before[:1], before[:1]
            else:
                taken, gone = before, before
            if place and not taken and not (pattern.consume == "all" and beside):
                continue
            hit = _union(at, [h for _, h in taken] + [Hit(at, (seen.number,), seen.time)])
            runs = [run for run in runs if run not in gone]
            if place == last:
                found.append(hit)
            else:
                runs.append((place, hit))
            break
    return found


def _count(pattern: Count, part: list[Hit], history: list[Seen]) -> list[Hit]:
    events = {seen.number: seen.event for seen in history}
    found = []
    counted: list[Hit] = []
    for hit in part:
        counted = [h for h in counted if _fits(h, hit.at, pattern.within)]
        if not _fits(hit, hit.at, pattern.within):
            continue
        if pattern.distinct:
            values = [_value(events[h.numbers[-1]], pattern.distinct) for h in [*counted, hit]]
            if values[-1] is None or values[-1] in values[:-1]:
                continue
        counted.append(hit)
        if len(counted) == pattern.n:
            found.append(_union(hit.at, counted))
            counted = []
    return found


def _absent(pattern: Absent, part: list[Hit], after: list[Hit]) -> list[Hit]:
    found = []
    for begun in after:
        end = begun.at[0] + _ms(pattern.within)
        if not any(begun.at < hit.at and hit.at[0] <= end for hit in part):
            found.append(begun._replace(at=(end + 1, 0, 0)))
    return found


def _debounce(pattern: Debounce, part: list[Hit]) -> list[Hit]:
    bursts: list[list[Hit]] = []
    for hit in part:
        if bursts and hit.at[0] <= bursts[-1][-1].at[0] + _ms(pattern.seconds):
            bursts[-1].append(hit)
        else:
            bursts.append([hit])
    return [_union(_end(burst[-1], pattern.seconds), burst) for burst in bursts]


def _throttle(pattern: Throttle, part: list[Hit]) -> list[Hit]:
    found: list[Hit] = []
    left = list(part)
    while left:
        found.append(left.pop(0))
        while True:
            end = _end(found[-1], pattern.seconds)
            held = [hit for hit in left if hit.at < end]
            left = left[len(held) :]
            if not held:
                break
            found.append(_union(end, held))
    return found


def _batch(pattern: Batch, part: list[Hit]) -> list[Hit]:
    found = []
    left = list(part)
    while left:
        batch = left[: pattern.max]
        if pattern.within is not None:
            end = _end(batch[0], pattern.within)
            batch = [hit for hit in batch if hit.at < end]
        left = left[len(batch) :]
        if len(batch) == pattern.max:
            found.append(_union(batch[-1].at, batch))
        elif pattern.within is not None:
            found.append(_union(end, batch))
    return found


def _end(hit: Hit, seconds: float) -> Instant:
    return (hit.at[0] + _ms(seconds) + 1, 0, 0)


def _fits(hit: Hit, at: Instant, within: float | None) -> bool:
    return within is None or at[0] - hit.since <= _ms(within)


def _union(at: Instant, hits: Iterable[Hit]) -> Hit:
    hits = list(hits)
    numbers = sorted({number for hit in hits for number in hit.numbers})
    return Hit(at, tuple(numbers), min(hit.since for hit in hits))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
