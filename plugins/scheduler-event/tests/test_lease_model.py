"""Leases, and what is written under them, against a model: one leads, and no other writes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from sqlalchemy import bindparam, select, update

from aiflow_core.testing.models import Machine, Runner
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.leases import Lease, Leases
from aiflow_scheduler_event.state import Changes, State
from aiflow_scheduler_event.store import LostRaceError, Store

from .test_store import empty

pytestmark = pytest.mark.model

TTL = 600_000  # longer than any test: a lease runs out when the test says so
PAST = 1
NAMES = ("scheduler", "worker/a", "worker/b")
HOLDERS = ("a", "b", "c")
ANY_ONE = st.integers(0, 1000)


@dataclass
class Row:
    """A lease as everybody sees it."""

    holder: str
    epoch: int
    holds: bool = True

    def is_of(self, lease: Lease) -> bool:
        return (self.holder, self.epoch) == (lease.holder, lease.epoch)


@dataclass
class Leader:
    """A server that has loaded the state under an epoch, and may not know that it is over."""

    store: Store
    state: State
    epoch: int


class LeaseMachine(Machine):
    """Servers that take, renew and lose leases, and write in the belief that they hold one.

    Each of them has its own connections, and keeps every lease that it ever had.
    """

    def __init__(self, stores: list[Store]) -> None:
        super().__init__()
        self.stores = stores
        empty(stores[0])
        with stores[0].engine.begin() as connection:
            connection.execute(update(tables.consumer).values(epoch=0))
        self.leases = [Leases(store.engine, store.uri) for store in stores]
        self.rows: dict[str, Row] = {}
        self.taken: list[Lease] = []
        self.leaders: list[Leader] = []
        self.epoch = 0
        self.offset = 0
        self.highest: dict[str, int] = {}

    # --- leases ---

    @rule(name=st.sampled_from(NAMES), who=st.sampled_from((0, 1, 2)))
    def take(self, name: str, who: int) -> None:
        self._took(name, HOLDERS[who], self.leases[who].take(name, HOLDERS[who], TTL))

    @rule(name=st.sampled_from(NAMES))
    def take_at_the_same_time(self, name: str) -> None:
        """Who of two gets it that is free, is the database's choice."""
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(lambda who: self.leases[who].take(name, HOLDERS[who], TTL), (0, 1))
            )
        row = self.rows.get(name)
        if row and row.holds:
            order = (0, 1)
        else:
            assert sum(lease is not None for lease in answers) == 1, "one, and only one"
            order = (0, 1) if answers[0] else (1, 0)
        for who in order:
            self._took(name, HOLDERS[who], answers[who])

    @precondition(lambda self: self.taken)
    @rule(which=ANY_ONE)
    def renew(self, which: int) -> None:
        lease = self.taken[-1 - which % len(self.taken)]
        row = self.rows[lease.name]
        assert self._leases_of(lease).renew(lease, TTL) == row.is_of(lease)
        row.holds = row.holds or row.is_of(lease)

    @precondition(lambda self: self.taken)
    @rule(which=ANY_ONE)
    def release(self, which: int) -> None:
        lease = self.taken[-1 - which % len(self.taken)]
        self._leases_of(lease).release(lease)
        row = self.rows[lease.name]
        row.holds = row.holds and not row.is_of(lease)

    @rule(name=st.sampled_from(NAMES))
    def run_out(self, name: str) -> None:
        """So much time passes that nobody has renewed it."""
        with self.stores[0].engine.begin() as connection:
            lease = tables.lease
            connection.execute(update(lease).where(lease.c.name == name).values(expires=PAST))
        if name in self.rows:
            self.rows[name].holds = False

    @precondition(lambda self: self.taken)
    @rule(which=ANY_ONE, who=st.sampled_from((0, 1, 2)))
    def fence(self, which: int, who: int) -> None:
        lease = self.taken[-1 - which % len(self.taken)]
        row = self.rows[lease.name]
        over = not row.holds and row.epoch == lease.epoch
        with self.stores[who].engine.begin() as connection:
            assert self.leases[who].fence(connection, lease) == over
        row.epoch += over

    @rule(who=st.sampled_from((0, 1, 2)))
    def look_who_is_gone(self, who: int) -> None:
        found = {lease.name: lease for lease in self.leases[who].expired("worker/")}
        assert found == {
            name: Lease(name, row.holder, row.epoch)
            for name, row in self.rows.items()
            if name.startswith("worker/") and not row.holds
        }

    # --- what a leader writes ---

    @precondition(lambda self: self._of_scheduler())
    @rule(which=ANY_ONE)
    def lead(self, which: int) -> None:
        """Load the state under a lease, be it the newest or one that is over."""
        leases = self._of_scheduler()
        lease = leases[-1 - which % len(leases)]
        store = self.stores[HOLDERS.index(lease.holder)]
        if lease.epoch < self.epoch:
            assert refused(store.load, lease.epoch)
            return
        state, _ = store.load(lease.epoch)
        assert state.offset == self.offset
        self.epoch = lease.epoch
        self.leaders.append(Leader(store, state, lease.epoch))

    @precondition(lambda self: self.leaders)
    @rule(which=ANY_ONE, further=st.integers(1, 3))
    def write(self, which: int, further: int) -> None:
        """Of all who believe that they lead, only the newest can."""
        place = -1 - which % len(self.leaders)
        leader = self.leaders[place]
        before = leader.state.offset
        leader.state.offset += further
        facts = (before, leader.state, Changes(), [], leader.epoch)
        if (leader.epoch, before) == (self.epoch, self.offset):
            leader.store.commit(*facts)
            self.offset = leader.state.offset
        else:
            assert refused(leader.store.commit, *facts), "two have written"
            del self.leaders[place]  # what it has in memory is not to be used any more

    @invariant()
    def the_database_is_as_expected(self) -> None:
        lease, consumer = tables.lease.c, tables.consumer.c
        with self.stores[0].engine.connect() as connection:
            found = connection.execute(
                select(lease.name, lease.holder, lease.epoch, lease.expires > PAST * 2)
            ).all()
            place = connection.execute(select(consumer.epoch, consumer.last_seq)).one()
        assert {name: (holder, epoch) for name, holder, epoch, _ in found} == {
            name: (row.holder, row.epoch) for name, row in self.rows.items()
        }
        for name, _, epoch, _ in found:
            assert epoch >= self.highest.get(name, 0), "an epoch went back"
            self.highest[name] = epoch
        assert tuple(place) == (self.epoch, self.offset)

    # --- inside ---

    def _took(self, name: str, holder: str, lease: Lease | None) -> None:
        row = self.rows.get(name)
        if row and row.holds and row.holder != holder:
            assert lease is None, "two at a time"
            return
        assert lease == Lease(name, holder, row.epoch + 1 if row else 1)
        self.rows[name] = Row(holder, lease.epoch)
        self.taken.append(lease)

    def _leases_of(self, lease: Lease) -> Leases:
        return self.leases[HOLDERS.index(lease.holder)]

    def _of_scheduler(self) -> list[Lease]:
        return [lease for lease in self.taken if lease.name == "scheduler"]


def refused(call: Callable[..., object], *facts: object) -> bool:
    """Whether somebody else has gone on."""
    try:
        call(*facts)
    except LostRaceError:
        return True
    return False


MakeMachine = Callable[[], LeaseMachine]


@contextmanager
def machines(url: str) -> Iterator[MakeMachine]:
    """Makes machines on that database, one after the other."""
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(Store(url))) for _ in HOLDERS]
        stores[0].initialize()
        yield lambda: LeaseMachine(stores)


def test_one_leads_and_no_other_writes(quick_database_url: str, run_model: Runner) -> None:
    runs = 10 if "sqlite" not in quick_database_url else 60
    with machines(quick_database_url) as make:
        run_model(make, runs=runs)


# --- faults ---


def keep_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """Let a lease that is taken keep the epoch of the one before."""
    _with(patch, "_take", lambda take: take.values(epoch=tables.lease.c.epoch))


def take_what_is_held(patch: pytest.MonkeyPatch) -> None:
    lease = tables.lease
    statement = (
        update(lease)
        .where(lease.c.name == bindparam("key"))
        .values(holder=bindparam("me"), epoch=lease.c.epoch + 1, expires=bindparam("ttl_ms"))
    )
    _with(patch, "_take", lambda take: statement)


def renew_whatever_the_epoch(patch: pytest.MonkeyPatch) -> None:
    mine = (tables.lease.c.name == bindparam("key")) & (tables.lease.c.holder == bindparam("me"))
    statement = update(tables.lease).where(mine).values(expires=tables.lease.c.expires + TTL)
    _with(patch, "_renew", lambda renew: statement)


def write_whatever_the_epoch(patch: pytest.MonkeyPatch) -> None:
    inner = Store.commit

    def commit(self: Store, before: int, state: State, changes: Changes, *rest: Any) -> Any:
        with self.engine.connect() as connection:
            newest = connection.scalar(select(tables.consumer.c.epoch))
        return inner(self, before, state, changes, [], newest or 0)

    patch.setattr(Store, "commit", commit)


def _with(patch: pytest.MonkeyPatch, name: str, change: Callable[[Any], Any]) -> None:
    """Let all leases have another statement there."""
    inner = Leases.__init__

    def init(self: Leases, *args: Any) -> None:
        inner(self, *args)
        setattr(self, name, change(getattr(self, name)))

    patch.setattr(Leases, "__init__", init)


@pytest.mark.parametrize(
    "fault",
    [keep_the_epoch, take_what_is_held, renew_whatever_the_epoch, write_whatever_the_epoch],
)
def test_a_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None],
    quick_sqlite_url: str,
    run_model: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)

    with machines(quick_sqlite_url) as make:
        assert run_model.finds(make, runs=60)
