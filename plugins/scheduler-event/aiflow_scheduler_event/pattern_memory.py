"""What the automaton of the event algebra remembers of a pattern. It is JSON."""

import hashlib

import msgspec

from aiflow_core.model.algebra import MOST_KEPT, AllOf, Consume, Count, InOrder, Pattern, Throttle
from aiflow_core.model.event import Event
from aiflow_core.model.payload import MISSING, field, identity

_LONGEST_GROUP = 100


class Item(msgspec.Struct, array_like=True, frozen=True):
    """A match of a part that waits: its events, and the time of the first of them."""

    refs: tuple[int, ...]
    since: int


class Group(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered for one value of `by`. There may be many, and an event concerns one: the
    cells of the others stay text.

    Attributes:
        due: the moment at which something ends in it that matters, None when there is none.
        over: the moment from which nothing is left of it, when it has no refs.
        refs: of all that waits in it.
    """

    due: int | None
    over: int
    refs: list[int]
    cell: msgspec.Raw


class Cell(msgspec.Struct, omit_defaults=True):
    """What is remembered of one pattern.

    Attributes:
        parts: the cells of its parts.
        kept: lists of what waits, the oldest first; how many there are depends on the pattern.
        until: the moments at which something ends, the earliest first.
        groups: what is remembered for each value of `by`; the others are empty then.
    """

    parts: list["Cell"] = []
    kept: list[list[Item]] = []
    until: list[int] = []
    groups: dict[str, Group] = {}

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

    def shelves(self, count: int) -> list[list[Item]]:
        """The lists of what waits, of which there are so many."""
        if not self.kept:
            self.kept = [[] for _ in range(count)]
        return self.kept


class Memory(msgspec.Struct, omit_defaults=True):
    """All that is remembered: of the whole pattern, the next ref, and how large the kept events
    are."""

    root: Cell = msgspec.field(default_factory=Cell)
    next_ref: int = 0
    characters: int = 0


def next_end(pattern: Pattern, cell: Cell) -> int | None:
    """The first moment at which something ends that matters."""
    moments = [group.due for group in cell.groups.values()]
    moments += [next_end(p, inner) for p, inner in zip(pattern.parts, cell.parts, strict=False)]
    # A throttle that holds nothing only lets the next one through: nobody need be woken for that.
    if cell.until and any(cell.kept):
        moments.append(cell.until[0])
    return min((moment for moment in moments if moment is not None), default=None)


def expire(pattern: Pattern, cell: Cell, now: int) -> None:
    """Forget what is too old to be part of a match; of groups only when they are looked at."""
    for part, inner in zip(pattern.parts, cell.parts, strict=False):
        expire(part, inner, now)
    if isinstance(pattern, AllOf | InOrder | Count) and pattern.within is not None:
        for shelf in cell.kept:
            shelf[:] = [item for item in shelf if now - item.since <= ms(pattern.within)]
    if isinstance(pattern, Throttle) and cell.until and cell.until[0] <= now and not any(cell.kept):
        cell.until = []


def last_end(cell: Cell) -> int:
    """The moment at which all has ended that ends by itself; 0 when nothing does."""
    moments = [*cell.until, *(last_end(part) for part in cell.parts)]
    return max(moments + [group.over for group in cell.groups.values()], default=0)


def sweep(cell: Cell, now: int) -> None:
    """Forget values of `by` of which nothing is left, and the oldest of those in which nothing
    waits when they are too many."""
    idle = sorted((group.over, name) for name, group in cell.groups.items() if not group.refs)
    surplus = len(idle) - MOST_KEPT
    for place, (over, name) in enumerate(idle):
        if over > now and place >= surplus:
            return
        del cell.groups[name]


def tidy(cell: Cell) -> None:
    """Leave out what is empty."""
    for part in cell.parts:
        tidy(part)
    if all(part.is_empty for part in cell.parts):
        cell.parts = []
    if not any(cell.kept):
        cell.kept = []


def group_name(event: Event, paths: tuple[str, ...]) -> str | None:
    """A text for the values of these fields, None when one is missing: JSON of a list, or where
    that is long its hash."""
    values = [field(event, path) for path in paths]
    text = None if MISSING in values else identity(values)
    if text is None or len(text) <= _LONGEST_GROUP:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def take(shelf: list[Item], consume: Consume) -> Item:
    """What a match takes of a shelf, which has something."""
    match consume:
        case Consume.FIRST:
            return shelf.pop(0)
        case Consume.LATEST:
            latest = shelf[-1]
            shelf.clear()
            return latest
        case _:
            return take_all(shelf)


def take_all(shelf: list[Item]) -> Item:
    """All of a shelf, which has something, as one."""
    merged = merge(shelf)
    shelf.clear()
    return merged


def merge(items: list[Item]) -> Item:
    """One item with the events of all."""
    refs = {ref for item in items for ref in item.refs}
    return Item(tuple(sorted(refs)), min(item.since for item in items))


def ms(seconds: float) -> int:
    """Milliseconds."""
    return round(seconds * 1000)
