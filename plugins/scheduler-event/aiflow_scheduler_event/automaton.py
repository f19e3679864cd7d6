"""The automaton of the event algebra: what a pattern makes of the next event, or of time.

PURE: `look` is a function of the pattern, of what was remembered, of the time and of the event.
What it remembers is JSON, and holds numbers (`refs`) instead of the events themselves, which are
kept beside it. Times are milliseconds since the epoch, and never go back.

A window of so many seconds includes its last millisecond. What its end leads to happens in the
millisecond after it, by whatever comes first: a timer, or an event of that moment or later. So it
does not matter how late a timer is.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from aiflow_core.model.algebra import (
    MOST_KEPT,
    MOST_KEPT_CHARACTERS,
    Absent,
    AllOf,
    AnyOf,
    Batch,
    Consume,
    Count,
    Debounce,
    Each,
    EventPattern,
    InOrder,
    Pattern,
    Throttle,
)
from aiflow_core.model.event import Event
from aiflow_core.model.payload import MISSING, field, identity
from aiflow_core.model.serialization import decode, encode

Match = tuple[Event, ...]
"""The events that made a match, in the order in which they came."""

_LONGEST_GROUP = 100


class Look(NamedTuple):
    """What a look at a pattern has led to.

    Attributes:
        memory: what is to be remembered, None when nothing is.
        kept: the events that are to be kept, by ref.
        due: matches that time has made, before the event came; in order.
        met: matches that the event has made, in order.
        wake: the moment at which to look again if no event comes, None when there is none.
        forgotten: events that had to make room, in order.
    """

    memory: str | None
    kept: dict[int, Event]
    due: list[Match]
    met: list[Match]
    wake: int | None
    forgotten: list[Event]


def look(
    pattern: Pattern,
    memory: str | None,
    kept: Mapping[int, Event],
    now: int,
    event: Event | None = None,
) -> Look:
    """Let time pass until `now`, and then the event come, if there is one.

    Args:
        memory, kept: of the last look; None and nothing at the first.
    """
    remembered = _Memory() if memory is None else decode(memory, _Memory)
    automaton = _Automaton(pattern, remembered, dict(kept))
    due = automaton.pass_time(now)
    met, forgotten = automaton.hear(event) if event is not None else ([], [])
    return automaton.outcome(due, met, forgotten)


class _Item(msgspec.Struct, array_like=True, frozen=True):
    """A match of a part that waits: its events, and the time of the first of them."""

    refs: tuple[int, ...]
    since: int


class _Group(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered for one value of `by`: the moment at which something ends in it, the refs
    that it holds, and its cell. There may be many, and an event concerns one: the cells of the
    others stay text."""

    due: int | None
    refs: list[int]
    cell: msgspec.Raw


class _Cell(msgspec.Struct, omit_defaults=True):
    """What is remembered of one pattern.

    Attributes:
        parts: the cells of its parts.
        kept: lists of what waits, the oldest first; how many there are depends on the pattern.
        until: the moments at which something ends, the earliest first.
        groups: what is remembered for each value of `by`; the others are empty then.
    """

    parts: list["_Cell"] = []
    kept: list[list[_Item]] = []
    until: list[int] = []
    groups: dict[str, _Group] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.until or self.groups or any(self.kept)) and all(
            part.is_empty for part in self.parts
        )

    @property
    def refs(self) -> set[int]:
        """The refs of all that waits."""
        found = {ref for shelf in self.kept for item in shelf for ref in item.refs}
        return found.union(
            *(group.refs for group in self.groups.values()), *(part.refs for part in self.parts)
        )

    def shelves(self, count: int) -> list[list[_Item]]:
        if not self.kept:
            self.kept = [[] for _ in range(count)]
        return self.kept


class _Memory(msgspec.Struct, omit_defaults=True):
    """All that is remembered: of the whole pattern, the next ref, and how large the kept events
    are."""

    root: _Cell = msgspec.field(default_factory=_Cell)
    next_ref: int = 0
    characters: int = 0


class _Automaton:
    def __init__(self, pattern: Pattern, memory: _Memory, kept: dict[int, Event]) -> None:
        self._pattern = pattern
        self._memory = memory
        self._kept = kept
        self._now = 0

    @property
    def _root(self) -> _Cell:
        return self._memory.root

    def pass_time(self, now: int) -> list[Match]:
        """End whatever ends until `now`, one moment after the other."""
        found: list[_Item] = []
        while (moment := _due(self._pattern, self._root)) is not None and moment <= now:
            self._move(moment)
            found += self._end(self._pattern, self._root)
        self._move(now)
        return [self._match(item) for item in found]

    def hear(self, event: Event) -> tuple[list[Match], list[Event]]:
        """The matches that an event makes now, and the events that had to make room."""
        ref = self._memory.next_ref
        self._memory.next_ref += 1
        self._memory.characters += event.characters
        self._kept[ref] = event
        found = self._feed(self._pattern, self._root, ref)
        matches = [self._match(item) for item in found]
        self._drop_unused()
        forgotten: list[Event] = []
        while (
            len(self._kept) > MOST_KEPT or self._memory.characters > MOST_KEPT_CHARACTERS
        ) and self._kept:
            gone = self._make_room(self._pattern, self._root, min(self._kept))
            forgotten += [self._kept[ref] for item in gone for ref in item.refs]
            # What is to go on before its time does so now.
            found = self._end(self._pattern, self._root)
            matches += [self._match(item) for item in found]
            self._drop_unused()
        return matches, forgotten

    def outcome(self, due: list[Match], met: list[Match], forgotten: list[Event]) -> Look:
        _tidy(self._root)
        self._drop_unused()
        memory = None if self._root.is_empty else encode(self._memory).decode()
        return Look(memory, self._kept, due, met, _due(self._pattern, self._root), forgotten)

    def _match(self, item: _Item) -> Match:
        return tuple(self._kept[ref] for ref in item.refs)

    def _move(self, now: int) -> None:
        self._now = now
        _expire(self._pattern, self._root, now)

    def _drop_unused(self) -> None:
        for ref in self._kept.keys() - self._root.refs:
            self._memory.characters -= self._kept.pop(ref).characters

    def _make_room(self, pattern: Pattern, cell: _Cell, ref: int) -> list[_Item]:
        """Let what waits with this event go: the items that are to be forgotten. None are where the
        event belongs to no match any more, or to what loses nothing and goes on now."""
        for name, group in list(cell.groups.items()):
            if ref in group.refs:
                inner = self._open(pattern, group)
                # Too old to be part of a match, perhaps; then there is room already.
                gone = self._make_room(pattern, inner, ref) if ref in inner.refs else []
                self._shut(pattern, cell, name, inner)
                return gone
        for part, inner in zip(pattern.parts, cell.parts, strict=False):
            if ref in inner.refs:
                return self._make_room(part, inner, ref)
        if isinstance(pattern, Debounce | Throttle | Batch):
            cell.until = [self._now]
            return []
        for shelf in cell.kept:
            for place, item in enumerate(shelf):
                if ref in item.refs:
                    del shelf[place]
                    if isinstance(pattern, Absent):
                        del cell.until[place]
                    return [item]
        raise KeyError(ref)

    def _open(self, pattern: Pattern, group: _Group | None) -> _Cell:
        if group is None:
            return _Cell()
        cell = msgspec.json.decode(group.cell, type=_Cell)
        _expire(pattern, cell, self._now)
        return cell

    def _shut(self, pattern: Pattern, cell: _Cell, name: str, inner: _Cell) -> None:
        _tidy(inner)
        if inner.is_empty:
            cell.groups.pop(name, None)
            return
        due = _due(pattern, inner)
        cell.groups[name] = _Group(due, sorted(inner.refs), msgspec.Raw(encode(inner)))

    # --- one pattern -----------------------------------------------------------------------------

    def _feed(self, pattern: Pattern, cell: _Cell, ref: int) -> list[_Item]:
        """The matches that the event makes, of this pattern."""
        event = self._kept[ref]
        if isinstance(pattern, EventPattern):
            return [_Item((ref,), self._now)] if pattern.matches(event) else []
        by = getattr(pattern, "by", ())
        if not by:
            return self._feed_group(pattern, cell, ref)
        name = _group(event, by)
        if name is None:
            return []
        inner = self._open(pattern, cell.groups.get(name))
        found = self._feed_group(pattern, inner, ref)
        self._shut(pattern, cell, name, inner)
        return found

    def _feed_group(self, pattern: Pattern, cell: _Cell, ref: int) -> list[_Item]:
        if isinstance(pattern, InOrder):
            return self._follow(pattern, cell, ref)
        if not cell.parts:
            cell.parts = [_Cell() for _ in pattern.parts]
        parts = zip(pattern.parts, cell.parts, strict=True)
        return self._take(pattern, cell, [self._feed(p, c, ref) for p, c in parts])

    def _end(self, pattern: Pattern, cell: _Cell) -> list[_Item]:
        """The matches that the present moment makes, of this pattern."""
        if not getattr(pattern, "by", ()):
            return self._end_group(pattern, cell) if self._ends(_due(pattern, cell)) else []
        found = []
        for name, group in list(cell.groups.items()):
            if self._ends(group.due):
                inner = self._open(pattern, group)
                found += self._end_group(pattern, inner)
                self._shut(pattern, cell, name, inner)
        return sorted(found, key=lambda item: item.refs)

    def _ends(self, due: int | None) -> bool:
        return due is not None and due <= self._now

    def _end_group(self, pattern: Pattern, cell: _Cell) -> list[_Item]:
        found = self._close(pattern, cell)
        if cell.parts:
            inputs = [self._end(p, c) for p, c in zip(pattern.parts, cell.parts, strict=True)]
            if any(inputs):
                found += self._take(pattern, cell, inputs)
        return found

    def _close(self, pattern: Pattern, cell: _Cell) -> list[_Item]:
        """What the end of this pattern's own waiting leads to, if it is there."""
        if not cell.until or cell.until[0] > self._now:
            return []
        (shelf,) = cell.shelves(1)
        if isinstance(pattern, Absent):
            ended = [
                item for item, until in zip(shelf, cell.until, strict=True) if until <= self._now
            ]
            del shelf[: len(ended)], cell.until[: len(ended)]
            return ended
        cell.until = []
        if not shelf:
            return []
        if isinstance(pattern, Throttle):
            cell.until = [self._after(pattern.seconds)]
        return [_empty(shelf)]

    def _take(self, pattern: Pattern, cell: _Cell, inputs: list[list[_Item]]) -> list[_Item]:
        """The matches that those of the parts make, which all are of this moment."""
        match pattern:
            case AnyOf():
                return list({item.refs: item for items in inputs for item in items}.values())
            case Each():
                return inputs[0]
            case AllOf():
                return self._join(pattern, cell, inputs)
            case Count():
                return self._count(pattern, cell, inputs[0])
            case Absent():
                return self._await(pattern, cell, *inputs)
            case Debounce():
                return self._debounce(pattern, cell, inputs[0])
            case Throttle():
                return self._throttle(pattern, cell, inputs[0])
            case Batch():
                return self._batch(pattern, cell, inputs[0])
        raise TypeError(f"{pattern} is met otherwise")

    def _join(self, pattern: AllOf, cell: _Cell, inputs: list[list[_Item]]) -> list[_Item]:
        shelves = cell.shelves(len(inputs))
        for shelf, items in zip(shelves, inputs, strict=True):
            shelf += self._in_time(items, pattern.within)
            if pattern.consume is Consume.LATEST:
                del shelf[:-1]
        found = []
        while all(shelves):
            found.append(_merge([_taken(shelf, pattern.consume) for shelf in shelves]))
        return found

    def _follow(self, pattern: InOrder, cell: _Cell, ref: int) -> list[_Item]:
        """Let the event go to the last part to which it can: those before it must have been met."""
        last = len(pattern.parts) - 1
        shelves = cell.shelves(last)
        gathers = pattern.consume is Consume.ALL
        for place in range(last, -1, -1):
            follows = place == 0 or bool(shelves[place - 1])
            joins = gathers and 0 < place < last and bool(shelves[place])
            if not (follows or joins):
                continue
            found = self._feed(pattern.parts[place], _Cell(), ref)[:1]
            if not found:
                continue
            if place and follows:
                found.insert(0, _taken(shelves[place - 1], pattern.consume))
            run = _merge(found)
            if place == last:
                return [run]
            shelves[place].append(run)
            if pattern.consume is Consume.LATEST:
                del shelves[place][:-1]
            return []
        return []

    def _count(self, pattern: Count, cell: _Cell, items: list[_Item]) -> list[_Item]:
        (shelf,) = cell.shelves(1)
        found = []
        for item in self._in_time(items, pattern.within):
            if pattern.distinct:
                value = self._distinct(pattern, item)
                if value is None or value in {self._distinct(pattern, i) for i in shelf}:
                    continue
            shelf.append(item)
            if len(shelf) == pattern.n:
                found.append(_empty(shelf))
        return found

    def _distinct(self, pattern: Count, item: _Item) -> str | None:
        return _group(self._kept[item.refs[-1]], (pattern.distinct,))

    def _await(
        self, pattern: Absent, cell: _Cell, came: list[_Item], begun: list[_Item]
    ) -> list[_Item]:
        (shelf,) = cell.shelves(1)
        if came:
            shelf.clear()
            cell.until.clear()
        shelf += begun
        cell.until += [self._after(pattern.within)] * len(begun)
        return []

    def _debounce(self, pattern: Debounce, cell: _Cell, items: list[_Item]) -> list[_Item]:
        if items:
            cell.shelves(1)[0].extend(items)
            cell.until = [self._after(pattern.seconds)]
        return []

    def _throttle(self, pattern: Throttle, cell: _Cell, items: list[_Item]) -> list[_Item]:
        (shelf,) = cell.shelves(1)
        found = []
        if items and not cell.until:
            cell.until = [self._after(pattern.seconds)]
            found.append(items[0])
            items = items[1:]
        shelf += items
        return found

    def _batch(self, pattern: Batch, cell: _Cell, items: list[_Item]) -> list[_Item]:
        (shelf,) = cell.shelves(1)
        found = []
        for item in items:
            if not shelf and pattern.within is not None:
                cell.until = [self._after(pattern.within)]
            shelf.append(item)
            if len(shelf) == pattern.max:
                found.append(_empty(shelf))
                cell.until = []
        return found

    # --- time ------------------------------------------------------------------------------------

    def _after(self, seconds: float) -> int:
        return self._now + _ms(seconds) + 1

    def _in_time(self, items: list[_Item], within: float | None) -> list[_Item]:
        if within is None:
            return items
        return [item for item in items if self._now - item.since <= _ms(within)]


def _due(pattern: Pattern, cell: _Cell) -> int | None:
    """The first moment at which something ends that matters."""
    moments = [group.due for group in cell.groups.values()]
    moments += [_due(p, inner) for p, inner in zip(pattern.parts, cell.parts, strict=False)]
    # A throttle that holds nothing only lets the next one through: nobody need be woken for that.
    if cell.until and any(cell.kept):
        moments.append(cell.until[0])
    return min((moment for moment in moments if moment is not None), default=None)


def _expire(pattern: Pattern, cell: _Cell, now: int) -> None:
    """Forget what is too old to be part of a match; of groups only when they are looked at."""
    for part, inner in zip(pattern.parts, cell.parts, strict=False):
        _expire(part, inner, now)
    if isinstance(pattern, AllOf | InOrder | Count) and pattern.within is not None:
        for shelf in cell.kept:
            shelf[:] = [item for item in shelf if now - item.since <= _ms(pattern.within)]
    if isinstance(pattern, Throttle) and cell.until and cell.until[0] <= now and not any(cell.kept):
        cell.until = []


def _tidy(cell: _Cell) -> None:
    """Leave out what is empty."""
    for part in cell.parts:
        _tidy(part)
    if all(part.is_empty for part in cell.parts):
        cell.parts = []
    if not any(cell.kept):
        cell.kept = []


def _group(event: Event, paths: tuple[str, ...]) -> str | None:
    """A text for the values of these fields, None when one is missing."""
    values = [field(event, path) for path in paths]
    text = None if MISSING in values else identity(values)
    if text is None or len(text) <= _LONGEST_GROUP:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def _taken(shelf: list[_Item], consume: Consume) -> _Item:
    """What a match takes of a shelf, which has something."""
    match consume:
        case Consume.FIRST:
            return shelf.pop(0)
        case Consume.LATEST:
            latest = shelf[-1]
            shelf.clear()
            return latest
        case _:
            return _empty(shelf)


def _empty(shelf: list[_Item]) -> _Item:
    merged = _merge(shelf)
    shelf.clear()
    return merged


def _merge(items: list[_Item]) -> _Item:
    refs = {ref for item in items for ref in item.refs}
    return _Item(tuple(sorted(refs)), min(item.since for item in items))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
