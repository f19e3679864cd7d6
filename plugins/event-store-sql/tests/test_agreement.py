"""Whatever is done to it, the SQL log answers as the log in memory does."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aiflow_core.model.event import Event, EventFilter, EventType
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_event_store_sql.event_store import SqlEventStore

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
# Few letters, so that patterns and repeats meet.
keys = st.text("aA%_?[]/\\é", max_size=4) | texts
patterns = st.text("aA%_?[]/\\é*", max_size=5)
names = st.sampled_from(["", "a", "A", "a "])
events = st.builds(
    Event,
    key=keys,
    value=st.none() | texts,
    namespace=names,
    sender=names,
    context=texts,
    type=st.sampled_from(EventType),
    id=st.sampled_from("abcdefghijklmnopqrstuvwxyz"),
)
filters = st.builds(
    EventFilter,
    keys=st.lists(patterns, max_size=3).map(tuple),
    namespace=st.none() | names,
    sender=st.none() | names,
    types=st.lists(st.sampled_from(EventType), max_size=2).map(tuple),
)
offsets = st.integers(0, 40)


class Agreement(RuleBasedStateMachine):
    empty: Path  # a database with tables and nothing in them

    @initialize()
    def open(self) -> None:
        self.clock = ManualClock()
        self.directory = Path(mkdtemp())
        database = shutil.copy(self.empty, self.directory)
        self.sql = SqlEventStore(f"sqlite:///{database}", clock=self.clock)
        self.memory = MemoryEventStore(self.clock)

    @rule(events=st.lists(events, max_size=6))
    def append(self, events: list[Event]) -> None:
        assert self.sql.append(events) == self.memory.append(events)

    @rule(after=offsets, until=st.none() | offsets, limit=st.integers(0, 10), filter=filters)
    def read(self, after: int, until: int | None, limit: int, filter: EventFilter) -> None:
        assert self.sql.read(after, until=until, limit=limit, filter=filter) == self.memory.read(
            after, until=until, limit=limit, filter=filter
        )

    @rule(after=offsets, until=st.none() | offsets, filter=filters)
    def count(self, after: int, until: int | None, filter: EventFilter) -> None:
        assert self.sql.count(filter, after=after, until=until) == self.memory.count(
            filter, after=after, until=until
        )

    @rule(before=offsets)
    def truncate(self, before: int) -> None:
        assert self.sql.truncate(before) == self.memory.truncate(before)

    @rule(seconds=st.integers(-3, 3))
    def set_the_clock(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(seconds=st.integers(-5, 5))
    def offset_at(self, seconds: int) -> None:
        moment = self.clock.now_ms() + seconds * 1000
        assert self.sql.offset_at(moment) == self.memory.offset_at(moment)

    @rule()
    def reopen(self) -> None:
        self.sql.close()
        database = next(self.directory.glob("*.db"))
        self.sql = SqlEventStore(f"sqlite:///{database}", clock=self.clock)

    @invariant()
    def heads_are_equal(self) -> None:
        if hasattr(self, "sql"):
            assert self.sql.head() == self.memory.head()

    def teardown(self) -> None:
        self.sql.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def empty_database(tmp_path: Path) -> Iterator[None]:
    Agreement.empty = tmp_path / "empty.db"
    store = SqlEventStore(f"sqlite:///{Agreement.empty}")
    store.initialize()
    store.close()
    yield
    del Agreement.empty


class TestAgreement(Agreement.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(
        max_examples=40,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )

    @pytest.fixture(autouse=True)
    def _database(self, empty_database: None) -> None: ...
