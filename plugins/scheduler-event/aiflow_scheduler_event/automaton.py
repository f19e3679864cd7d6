"""The automaton of the event algebra: what a pattern makes of the next event, or of time.

PURE: `look` is a function of the pattern, of what was remembered, of the time and of the event.
What it remembers is JSON, and holds numbers (`refs`) instead of the events themselves, which are
kept beside it. Times are milliseconds since the epoch, and never go back.

A window of so many seconds includes its last millisecond. What its end leads to happens in the
millisecond after it, by whatever comes first: a timer, or an event of that moment or later. So it
does not matter how late a timer is.
"""

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
from aiflow_core.model.serialization import decode, encode
from aiflow_scheduler_event.pattern_memory import (
    Cell,
    Group,
    Item,
    Memory,
    expire,
    group_name,
    last_end,
    merge,
    ms,
    next_end,
    sweep,
    take,
    take_all,
    tidy,
)

Match = tuple[Event, ...]
"""The events that made a match, in the order in which they came."""


class Look(NamedTuple):
    """What a look at a pattern has led to.

    Attributes:
        memory: what is to be remembered, None when nothing is.
        kept: the events that are to be kept, by ref.
        due: matches that time has made, before the event came; in order.
        met: matches that the event has made, in order.
        wake: the moment at which to look again if no event comes, None when there is none.
        forgotten: events that had to make room, in order.
        root: the memory as the automaton reads it, of the whole pattern.
    """

    memory: str | None
    kept: dict[int, Event]
    due: list[Match]
    met: list[Match]
    wake: int | None
    forgotten: list[Event]
    root: Cell


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
    remembered = Memory() if memory is None else decode(memory, Memory)
    automaton = _Automaton(pattern, remembered, dict(kept))
    due = automaton.pass_time(now)
    met, forgotten = automaton.hear(event) if event is not None else ([], [])
    return automaton.outcome(due, met, forgotten)


class _Automaton:
    def __init__(self, pattern: Pattern, memory: Memory, kept: dict[int, Event]) -> None:
        self._pattern = pattern
        self._memory = memory
        self._kept = kept
        self._now = 0

    @property
    def _root(self) -> Cell:
        return self._memory.root

    def pass_time(self, now: int) -> list[Match]:
        """End whatever ends until `now`, one moment after the other."""
        found: list[Item] = []
        while (moment := next_end(self._pattern, self._root)) is not None and moment <= now:
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
        tidy(self._root)
        self._drop_unused()
        memory = None if self._root.is_empty else encode(self._memory).decode()
        wake = next_end(self._pattern, self._root)
        return Look(memory, self._kept, due, met, wake, forgotten, self._root)

    def _match(self, item: Item) -> Match:
        return tuple(self._kept[ref] for ref in item.refs)

    def _move(self, now: int) -> None:
        self._now = now
        expire(self._pattern, self._root, now)

    def _drop_unused(self) -> None:
        for ref in self._kept.keys() - self._root.refs:
            self._memory.characters -= self._kept.pop(ref).characters

    def _make_room(self, pattern: Pattern, cell: Cell, ref: int) -> list[Item]:
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

    def _open(self, pattern: Pattern, group: Group | None) -> Cell:
        if group is None:
            return Cell()
        cell = msgspec.json.decode(group.cell, type=Cell)
        expire(pattern, cell, self._now)
        return cell

    def _shut(self, pattern: Pattern, cell: Cell, name: str, inner: Cell) -> None:
        tidy(inner)
        if inner.is_empty:
            cell.groups.pop(name, None)
            return
        text = msgspec.Raw(encode(inner))
        due = next_end(pattern, inner)
        cell.groups[name] = Group(due, last_end(inner), sorted(inner.refs), text)

    # --- one pattern -----------------------------------------------------------------------------

    def _feed(self, pattern: Pattern, cell: Cell, ref: int) -> list[Item]:
        """The matches that the event makes, of this pattern."""
        event = self._kept[ref]
        if isinstance(pattern, EventPattern):
            return [Item((ref,), self._now)] if pattern.matches(event) else []
        by = getattr(pattern, "by", ())
        if not by:
            return self._feed_group(pattern, cell, ref)
        name = group_name(event, by)
        if name is None:
            return []
        inner = self._open(pattern, cell.groups.get(name))
        found = self._feed_group(pattern, inner, ref)
        self._shut(pattern, cell, name, inner)
        sweep(cell, self._now)
        return found

    def _feed_group(self, pattern: Pattern, cell: Cell, ref: int) -> list[Item]:
        if isinstance(pattern, InOrder):
            return self._follow(pattern, cell, ref)
        if not cell.parts:
            cell.parts = [Cell() for _ in pattern.parts]
        parts = zip(pattern.parts, cell.parts, strict=True)
        return self._take(pattern, cell, [self._feed(p, c, ref) for p, c in parts])

    def _end(self, pattern: Pattern, cell: Cell) -> list[Item]:
        """The matches that the present moment makes, of this pattern."""
        if not getattr(pattern, "by", ()):
            return self._end_group(pattern, cell) if self._ends(next_end(pattern, cell)) else []
        found = []
        for name, group in list(cell.groups.items()):
            if self._ends(group.due):
                inner = self._open(pattern, group)
                found += self._end_group(pattern, inner)
                self._shut(pattern, cell, name, inner)
        return sorted(found, key=lambda item: item.refs)

    def _ends(self, due: int | None) -> bool:
        return due is not None and due <= self._now

    def _end_group(self, pattern: Pattern, cell: Cell) -> list[Item]:
        found = self._close(pattern, cell)
        if cell.parts:
            inputs = [self._end(p, c) for p, c in zip(pattern.parts, cell.parts, strict=True)]
            if any(inputs):
                found += self._take(pattern, cell, inputs)
        return found

    def _close(self, pattern: Pattern, cell: Cell) -> list[Item]:
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
        return [take_all(shelf)]

    def _take(self, pattern: Pattern, cell: Cell, inputs: list[list[Item]]) -> list[Item]:
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

    def _join(self, pattern: AllOf, cell: Cell, inputs: list[list[Item]]) -> list[Item]:
        shelves = cell.shelves(len(inputs))
        for shelf, items in zip(shelves, inputs, strict=True):
            shelf += self._in_time(items, pattern.within)
            if pattern.consume is Consume.LATEST:
                del shelf[:-1]
        found = []
        while all(shelves):
            found.append(merge([take(shelf, pattern.consume) for shelf in shelves]))
        return found

    def _follow(self, pattern: InOrder, cell: Cell, ref: int) -> list[Item]:
        """Let the event go to the last part to which it can: those before it must have been met."""
        last = len(pattern.parts) - 1
        shelves = cell.shelves(last)
        gathers = pattern.consume is Consume.ALL
        for place in range(last, -1, -1):
            follows = place == 0 or bool(shelves[place - 1])
            joins = gathers and 0 < place < last and bool(shelves[place])
            if not (follows or joins):
                continue
            found = self._feed(pattern.parts[place], Cell(), ref)[:1]
            if not found:
                continue
            if place and follows:
                found.insert(0, take(shelves[place - 1], pattern.consume))
            run = merge(found)
            if place == last:
                return [run]
            shelves[place].append(run)
            if pattern.consume is Consume.LATEST:
                del shelves[place][:-1]
            return []
        return []

    def _count(self, pattern: Count, cell: Cell, items: list[Item]) -> list[Item]:
        (shelf,) = cell.shelves(1)
        found = []
        for item in self._in_time(items, pattern.within):
            if pattern.distinct:
                value = self._distinct(pattern, item)
                if value is None or value in {self._distinct(pattern, i) for i in shelf}:
                    continue
            shelf.append(item)
            if len(shelf) == pattern.n:
                found.append(take_all(shelf))
        return found

    def _distinct(self, pattern: Count, item: Item) -> str | None:
        return group_name(self._kept[item.refs[-1]], (pattern.distinct,))

    def _await(
        self, pattern: Absent, cell: Cell, came: list[Item], begun: list[Item]
    ) -> list[Item]:
        (shelf,) = cell.shelves(1)
        if came:
            shelf.clear()
            cell.until.clear()
        shelf += begun
        cell.until += [self._after(pattern.within)] * len(begun)
        return []

    def _debounce(self, pattern: Debounce, cell: Cell, items: list[Item]) -> list[Item]:
        if items:
            cell.shelves(1)[0].extend(items)
            cell.until = [self._after(pattern.seconds)]
        return []

    def _throttle(self, pattern: Throttle, cell: Cell, items: list[Item]) -> list[Item]:
        (shelf,) = cell.shelves(1)
        found = []
        if items and not cell.until:
            cell.until = [self._after(pattern.seconds)]
            found.append(items[0])
            items = items[1:]
        shelf += items
        return found

    def _batch(self, pattern: Batch, cell: Cell, items: list[Item]) -> list[Item]:
        (shelf,) = cell.shelves(1)
        found = []
        for item in items:
            if not shelf and pattern.within is not None:
                cell.until = [self._after(pattern.within)]
            shelf.append(item)
            if len(shelf) == pattern.max:
                found.append(take_all(shelf))
                cell.until = []
        return found

    # --- time ------------------------------------------------------------------------------------

    def _after(self, seconds: float) -> int:
        return self._now + ms(seconds) + 1

    def _in_time(self, items: list[Item], within: float | None) -> list[Item]:
        if within is None:
            return items
        return [item for item in items if self._now - item.since <= ms(within)]
