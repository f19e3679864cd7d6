"""EventStore against a model: what a log is, and a machine that does anything to both."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import overload

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from msgspec.structs import replace

from aiflow_core.clock import Clock
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, EventType
from aiflow_core.specs.event_store import EventStore
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import Follower
from aiflow_core.testing.models import Machine

KEYS = ("a", "A", "a.b", "a.c", "a%b", "a_b", "ü")
PATTERNS = (*KEYS, "*", "a*", "*b", "a*b", "a.*.*")

# Few of everything, so that things meet. No id: the store makes one up.
EVENTS = st.builds(
    Event,
    key=st.sampled_from(KEYS),
    value=st.sampled_from((None, "", "1", "2")),
    namespace=st.sampled_from(("", "n", "N")),
    sender=st.sampled_from(("", "me", "you")),
    type=st.sampled_from((EventType.USER, EventType.TIMER)),
    id=st.sampled_from(("", *(f"id {n}" for n in range(12)))),
)
LISTS = st.lists(EVENTS, max_size=6)
FILTERS = st.builds(
    EventFilter,
    keys=st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple),
    namespace=st.sampled_from((None, None, "", "n")),
    sender=st.sampled_from((None, None, "me", "Me")),
    types=st.sampled_from(((), (EventType.USER,), (EventType.TIMER, EventType.COMMAND))),
)
ANY_ONE = st.integers(0, 1000)
# So far before the newest event, or behind it.
BACK = st.integers(-2, 30)
# Seconds until an event that does not come is missed; many times what the slowest needs.
TIMEOUT = 3
SECONDS = st.sampled_from((0.001, 0.5, 60.0, 3600.0, 86400.0))


class LogModel:
    """A log, as `EventStore` describes it.

    Attributes:
        entries: what is in it, in order.
        head: the last offset that was given.
        last_ms: the latest time of creation that was given.
    """

    def __init__(self) -> None:
        self.entries: list[Event] = []
        self.head = 0
        self.last_ms = 0

    def copy(self) -> "LogModel":
        twin = LogModel()
        twin.entries, twin.head, twin.last_ms = self.entries[:], self.head, self.last_ms
        return twin

    def append(self, events: Sequence[Event], now_ms: int) -> list[Event]:
        """As `EventStore.append`; each event has an id."""
        answers = []
        for event in events:
            stored = next((e for e in self.entries if e.id == event.id), None)
            if stored is None:
                self.head += 1
                self.last_ms = max(self.last_ms, now_ms)
                stored = replace(event, offset=self.head, create_time=self.last_ms)
                self.entries.append(stored)
            answers.append(stored)
        return answers

    def between(self, after: int, until: int | None, filter: EventFilter) -> list[Event]:
        end = self.head if until is None else until
        return [e for e in self.entries if after < e.offset <= end and filter.matches(e)]

    def offset_at(self, time_ms: int) -> int:
        since = [e.offset for e in self.entries if e.create_time >= time_ms]
        return since[0] - 1 if since else self.head

    def truncate(self, before: int) -> int:
        gone = [e for e in self.entries if e.offset < before]
        self.entries = self.entries[len(gone) :]
        return len(gone)


class StillClock(ManualClock):
    """Tells the time that a machine has set; who waits on it waits for real, which is how a store
    looks for what others have appended."""

    def wait(self, event: object, seconds: float | None) -> bool:
        return Clock.wait(self, event, seconds)  # type: ignore[arg-type]


class Reader:
    """A subscription that is followed, and what it must still bring."""

    def __init__(self, store: EventStore, after: int, filter: EventFilter) -> None:
        self.store = store
        self._filter = filter
        self._position = after
        self._follower = Follower(store.subscribe(after, filter))

    def check(self, model: LogModel) -> None:
        """Take what must have come, and see that it is that."""
        due = model.between(self._position, None, self._filter)
        assert self._follower.take(len(due), timeout=TIMEOUT) == due
        self._position = max(self._position, model.head)

    def end(self, *, by_its_store: bool) -> None:
        if by_its_store:
            self._follower.await_end(timeout=TIMEOUT)
        self._follower.__exit__()


class LogMachine(Machine):
    """Does anything to a log, through one store or through several on the same log.

    Args:
        open_store: gives a store on the log; when it can be called again, the log is the same.
        stores: so many are open at the same time.
        durable: what is closed can be opened again.
    """

    def __init__(
        self, open_store: Callable[[Clock], EventStore], stores: int = 1, durable: bool = False
    ) -> None:
        super().__init__()
        self.clock = StillClock()
        self.model = LogModel()
        self.durable = durable
        self._open_store = open_store
        self._stack = ExitStack()
        self.stores = [open_store(self.clock) for _ in range(stores)]
        self.readers: list[Reader] = []

    def store(self, which: int) -> EventStore:
        return self.stores[which % len(self.stores)]

    @overload
    def _offset(self, back: int) -> int: ...
    @overload
    def _offset(self, back: None) -> None: ...
    def _offset(self, back: int | None) -> int | None:
        return None if back is None else max(self.model.head - back, 0)

    def teardown(self) -> None:
        with ExitStack() as stack:
            for store in self.stores:
                stack.callback(store.close)
            for reader in self.readers:
                stack.callback(reader.end, by_its_store=False)

    # --- appending ---

    @rule(which=ANY_ONE, events=LISTS)
    def append(self, which: int, events: list[Event]) -> None:
        self.check_stored(events, self.store(which).append(events))

    @precondition(lambda self: self.model.entries)
    @rule(which=ANY_ONE, again=st.lists(ANY_ONE, min_size=1, max_size=4), new=LISTS)
    def append_some_again(self, which: int, again: list[int], new: list[Event]) -> None:
        """What a producer does who does not know how far his list came."""
        entries = self.model.entries
        events = [replace(entries[n % len(entries)], value="other") for n in again] + new
        self.check_stored(events, self.store(which).append(events))

    @precondition(lambda self: len(self.stores) > 1)
    @rule(lists=st.tuples(LISTS, LISTS))
    def append_at_the_same_time(self, lists: tuple[list[Event], list[Event]]) -> None:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda store, events: store.append(events), self.stores, lists))
        # Who was first is the log's choice; then everything is as one after the other.
        for first in (0, 1):
            model = self.model.copy()
            orders = (first, 1 - first)
            expected = {
                n: model.append(self._with_ids(lists[n], answers[n]), self.clock.now_ms())
                for n in orders
            }
            if [expected[0], expected[1]] == answers:
                self.model = model
                return
        raise AssertionError(f"neither was first: {answers}")

    def check_stored(self, given: list[Event], answer: list[Event]) -> None:
        """The answer to the append of these events is right."""
        given = self._with_ids(given, answer)
        assert answer == self.model.append(given, self.clock.now_ms())

    def _with_ids(self, given: list[Event], answer: list[Event]) -> list[Event]:
        """The events with the ids that the store has made up, which must be new ones."""
        known = {e.id for e in self.model.entries}
        made_up = [e.id for g, e in zip(given, answer, strict=True) if not g.id]
        assert all(made_up)
        assert len({*made_up}) == len(made_up)
        assert not known & {*made_up}
        return [g if g.id else replace(g, id=e.id) for g, e in zip(given, answer, strict=True)]

    # --- reading ---

    @rule(
        which=ANY_ONE,
        after=BACK,
        until=st.none() | BACK,
        limit=st.sampled_from((0, 1, 3, 1000)),
        filter=FILTERS,
    )
    def read(
        self, which: int, after: int, until: int | None, limit: int, filter: EventFilter
    ) -> None:
        after, until = self._offset(after), self._offset(until)
        found = self.store(which).read(after, until=until, limit=limit, filter=filter)
        assert found == self.model.between(after, until, filter)[:limit]

    @rule(which=ANY_ONE, after=BACK, until=st.none() | BACK, filter=FILTERS)
    def count_by_sender(
        self, which: int, after: int, until: int | None, filter: EventFilter
    ) -> None:
        after, until = self._offset(after), self._offset(until)
        found = self.store(which).count(filter, after=after, until=until)
        assert found == Counter(e.sender for e in self.model.between(after, until, filter))

    @rule(which=ANY_ONE, event=ANY_ONE, off=st.sampled_from((-86_400_000, -1, 0, 1)))
    def ask_for_a_moment(self, which: int, event: int, off: int) -> None:
        times = [e.create_time for e in self.model.entries] or [self.clock.now_ms()]
        moment = times[event % len(times)] + off
        assert self.store(which).offset_at(moment) == self.model.offset_at(moment)

    @invariant()
    def every_store_knows_the_head(self) -> None:
        assert [store.head() for store in self.stores] == [self.model.head] * len(self.stores)

    # --- following ---

    @precondition(lambda self: len(self.readers) < 3)
    @rule(which=ANY_ONE, after=BACK, filter=FILTERS | st.just(EVERYTHING))
    def subscribe(self, which: int, after: int, filter: EventFilter) -> None:
        reader = Reader(self.store(which), self._offset(after), filter)
        self.readers.append(reader)
        reader.check(self.model)

    @precondition(lambda self: self.readers)
    @rule(which=ANY_ONE)
    def follow(self, which: int) -> None:
        self.readers[which % len(self.readers)].check(self.model)

    @precondition(lambda self: self.readers)
    @rule(which=ANY_ONE)
    def unsubscribe(self, which: int) -> None:
        reader = self.readers.pop(which % len(self.readers))
        reader.check(self.model)
        reader.end(by_its_store=False)

    # --- what else happens to a log ---

    @rule(which=ANY_ONE, before=BACK)
    def truncate(self, which: int, before: int) -> None:
        for reader in self.readers:
            reader.check(self.model)  # nobody can be told of what is gone
        before = self._offset(before)
        assert self.store(which).truncate(before) == self.model.truncate(before)
        # Who begins before the cut is given what there is after it.
        late = Reader(self.store(which), max(before - 3, 0), EVERYTHING)
        late.check(self.model)
        late.end(by_its_store=False)

    @precondition(lambda self: self.durable)
    @rule(which=ANY_ONE)
    def reopen(self, which: int) -> None:
        place = which % len(self.stores)
        closed = self.stores[place]
        for reader in [r for r in self.readers if r.store is closed]:
            reader.check(self.model)
        closed.close()
        for reader in [r for r in self.readers if r.store is closed]:
            reader.end(by_its_store=True)
            self.readers.remove(reader)
        self.stores[place] = self._open_store(self.clock)

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=SECONDS)
    def set_the_clock_back(self, seconds: float) -> None:
        self.clock.jump(-seconds)
