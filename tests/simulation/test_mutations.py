"""The simulation bites: each of these faults, put into the product, is found within a few seeds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import bindparam, update

from aiflow_core.crash import crash_point
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event, new_event_id
from aiflow_core.model.execution import AttemptKey
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_event_store_sql.writer import SqlLogTransaction
from aiflow_scheduler_event import loop, membership, step, tables
from aiflow_scheduler_event.decider import Decider, Step
from aiflow_scheduler_event.loop import Inbox, Loop, Outbox
from aiflow_scheduler_event.reporter import Reporter
from aiflow_scheduler_event.running import Running
from aiflow_scheduler_event.state import Changes, OutboxEntry
from aiflow_scheduler_event.store import Store
from aiflow_scheduler_event.timers import Timers

from .simulate import HARSH, PAUSES, POWER, Desk, desk, simulate
from .world import Faults

MOST_SEEDS = 150

Fault = Callable[[pytest.MonkeyPatch, Desk], None]


@pytest.fixture
def place() -> Iterator[Desk]:
    with desk() as made:
        yield made


def any_leader_may_write(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """The predicate on the epoch is dropped from every write."""
    consumer = tables.consumer
    for store in place.stores:
        patch.setattr(
            store._statements,
            "advance",
            update(consumer)
            .where(consumer.c.last_seq == bindparam("before"), bindparam("mine") >= 0)
            .values(last_seq=bindparam("last_seq"), counters=bindparam("counters")),
        )


def nobody_asks_where_the_offset_stands(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """All predicates are dropped: neither epoch nor offset is looked at."""
    consumer = tables.consumer
    for store in place.stores:
        patch.setattr(
            store._statements,
            "advance",
            update(consumer)
            .where(bindparam("before") >= 0, bindparam("mine") >= 0)
            .values(last_seq=bindparam("last_seq"), counters=bindparam("counters")),
        )


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """An append is answered, and then its transaction does not come about."""
    append = SqlEventStore.append

    def answer(self: SqlEventStore, events: Sequence[Event]) -> list[Event]:
        if place.world.chance.random() < 0.02:
            return [*events]
        return append(self, events)

    patch.setattr(SqlEventStore, "append", answer)


def the_offset_in_a_transaction_of_its_own(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """The offset moves first, and the effects follow, unless the process dies in between."""
    commit, advance = Store.commit, Store._advance

    def in_two(
        self: Store, before: int, state: Any, changes: Any, sent: Any, epoch: int = 0
    ) -> Any:
        with self.engine.begin() as connection:
            advance(self, connection, before, state, epoch)
        crash_point("scheduler.commit.within")
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Store, "_advance", lambda *args: None)
            return commit(self, before, state, changes, sent, epoch)

    patch.setattr(Store, "commit", in_two)


def offsets_by_auto_increment(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """A number is used up by a transaction that does not come about."""
    insert = SqlLogTransaction.insert

    def skip(self: SqlLogTransaction, lists: Any, *, look_up: bool) -> Any:
        if place.world.chance.random() < 0.02:
            self._offset += 1
        return insert(self, lists, look_up=look_up)

    patch.setattr(SqlLogTransaction, "insert", skip)


def events_forgotten_by_their_ids(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """An event that is sent again is another event."""
    append = SqlEventStore.append

    def rename(self: SqlEventStore, events: Sequence[Event]) -> list[Event]:
        return append(self, [replace(event, id=new_event_id()) for event in events])

    patch.setattr(SqlEventStore, "append", rename)


def no_outbox(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """What is to be published is only in memory."""
    nothing = property(lambda self: None, lambda self, log: None)
    patch.setattr(Store, "log", nothing)  # where it shares its database the log is the outbox
    patch.setattr(OutboxEntry, "is_kept", property(lambda self: False))


def outbox_ids_by_chance(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """A step that is done again publishes under other ids."""
    patch.setattr(step, "derived_event_id", lambda *parts: new_event_id())


def struck_off_before_it_arrived(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """A message leaves the outbox when it is sent."""
    add = Outbox.add

    def add_arrived(self: Outbox, entry: OutboxEntry) -> Any:
        arrived = add(self, entry)
        arrived()
        return arrived

    patch.setattr(Outbox, "add", add_arrived)


def everybody_may_start(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """No claim: each server starts what it was once told to start."""

    def claim(self: Running, key: AttemptKey) -> bool:
        self._claimed.add(key)
        return True

    patch.setattr(Running, "claim", claim)


def attempts_that_outlive_their_lease(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """What a server runs goes on although the others may give it up."""
    patch.setattr(membership, "_LIVES", 5.0)


def queued_attempts_are_not_resumed(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """After a restart nobody submits again what waits to be run."""
    resume = Running._resume_attempts

    def forget(self: Running, state: Any, workers: Any) -> None:
        submit, self._executor.submit = self._executor.submit, lambda request: None  # type: ignore[method-assign]
        try:
            resume(self, state, workers)
        finally:
            self._executor.submit = submit  # type: ignore[method-assign]

    patch.setattr(Running, "_resume_attempts", forget)


def timers_are_not_restored(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """After a restart the timers that were set are gone."""
    patch.setattr(Timers, "replace_all", lambda self, timers: None)


def reports_sent_at_most_once(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """What could not be appended is not tried again."""
    flush = Reporter.flush

    def once(self: Reporter) -> None:
        try:
            flush(self)
        except UnavailableError:
            self._waiting.clear()

    patch.setattr(Reporter, "flush", once)


def half_changed_memory_is_kept(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """After a commit whose outcome is unknown the state in memory is used further."""
    commit = Decider._commit

    def careless(self: Decider, batch: Any, arrived: Any) -> Any:
        try:
            return commit(self, batch, arrived)
        except UnavailableError:
            return Step(Changes(), [], [])

    patch.setattr(Decider, "_commit", careless)


def delivered_events_are_not_put_in_order(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """Events are taken in as they come, with gaps."""

    def add(self: Inbox, event: Event) -> None:
        if self._next is not None and event.offset >= self._next:
            self._next = event.offset
            self._waiting[event.offset] = event

    patch.setattr(Inbox, "_add", add)


def the_log_is_not_read_before_resuming(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """What is resumed is what the database knew, however far the log had gone on."""
    patch.setattr(Loop, "_check_log", lambda self: 0)


def observers_hear_of_it_before_the_commit(patch: pytest.MonkeyPatch, place: Desk) -> None:
    """Observers are told of a step that may come to nothing, and is then done again."""
    commit = Store.commit

    def tell_first(self: Loop, wait: float = 0) -> None:
        def early(store: Store, before: int, state: Any, changes: Changes, *more: Any) -> Any:
            for offset, value in changes.told:
                self._deployment.hooks.early(value=value, offset=offset)
            return commit(store, before, state, changes, *more)

        with pytest.MonkeyPatch.context() as within:
            within.setattr(Store, "commit", early)
            within.setattr(loop, "tell", lambda *facts: None)
            step_of_the_loop(self, wait)

    step_of_the_loop = Loop.step
    patch.setattr(Loop, "step", tell_first)


# Each with what goes wrong when it shows.
FAULTS: list[tuple[Fault, Faults]] = [
    (any_leader_may_write, Faults(unanswered=0.2, pause=0.06, repeated=0.3)),
    (nobody_asks_where_the_offset_stands, PAUSES),
    (acknowledged_before_the_commit, HARSH),
    (the_offset_in_a_transaction_of_its_own, HARSH),
    (offsets_by_auto_increment, HARSH),
    (events_forgotten_by_their_ids, HARSH),
    (no_outbox, HARSH),
    (outbox_ids_by_chance, HARSH),
    (struck_off_before_it_arrived, HARSH),
    (everybody_may_start, PAUSES),
    (attempts_that_outlive_their_lease, PAUSES),
    (queued_attempts_are_not_resumed, HARSH),
    (timers_are_not_restored, HARSH),
    (reports_sent_at_most_once, HARSH),
    (half_changed_memory_is_kept, HARSH),
    (delivered_events_are_not_put_in_order, HARSH),
    (the_log_is_not_read_before_resuming, POWER),
    (observers_hear_of_it_before_the_commit, HARSH),
]


# Where to begin, for what few seeds show.
BEGIN = {any_leader_may_write: 100}


def first_failure(place: Desk, faults: Faults, begin: int) -> tuple[int, str] | None:
    """The first seed from there on that finds something, and what."""
    for seed in range(begin, begin + MOST_SEEDS):
        try:
            simulate(seed, place, faults)
        except Exception as found:  # a fault may show itself in any way
            return seed, f"{type(found).__name__}: {str(found)[:150]}"
    return None


@pytest.mark.parametrize(
    ("fault", "faults"), [pytest.param(*both, id=both[0].__name__) for both in FAULTS]
)
def test_a_fault_is_found(
    fault: Fault,
    faults: Faults,
    place: Desk,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Any,
) -> None:
    fault(monkeypatch, place)

    found = first_failure(place, faults, BEGIN.get(fault, 0))

    assert found is not None, f"{MOST_SEEDS} seeds have not found: {fault.__doc__}"
    record_property("found", found)
    print(f"{fault.__name__}: seed {found[0]}: {found[1]}")
