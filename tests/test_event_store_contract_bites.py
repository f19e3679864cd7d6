"""The contract suite finds out event stores that do not keep their promises: each of these breaks
one, and is caught by the test that is named beside it."""

import copy
import inspect
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

import aiflow_core.testing.event_store
import aiflow_core.testing.waiting
from aiflow_core.errors import AIFlowError, UnavailableError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter
from aiflow_core.specs.event_store import check_event
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import (
    DurableEventStoreContract,
    MemoryEventStore,
    MemorySubscription,
)


class SoundStore(MemoryEventStore):
    """One whose log can be opened once more, as if it were on a disk, or not be reached."""

    def reopened(self) -> "SoundStore":
        another = copy.copy(self)
        another.__dict__ = self.__dict__
        return another

    def anew(self, **changed: Any) -> "SoundStore":
        """Opened once more, with something of its log changed."""
        another = copy.copy(self)
        another._events, another._by_id = list(self._events), dict(self._by_id)
        another.__dict__.update(changed)
        return another

    def unreachable(self) -> Any:
        return Unreachable(UnavailableError("nobody answers"))


class Unreachable:
    """Answers every call with that error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*args: object) -> None:
            raise self._error

        return fail


# --- appending ---


class KeepsHalfAList(SoundStore):
    def append(self, events: Sequence[Event]) -> list[Event]:
        return [
            stored for event in events for stored in super(KeepsHalfAList, self).append([event])
        ]


class AppendsRepeats(SoundStore):
    def _keep(self, event: Event) -> Event:
        self._by_id.pop(event.id, None)
        return super()._keep(event)


class BurnsOffsetsForRepeats(SoundStore):
    def _keep(self, event: Event) -> Event:
        known = event.id in self._by_id
        stored = super()._keep(event)
        self._head += known
        return stored


class AnswersWithTheSecond(SoundStore):
    def _keep(self, event: Event) -> Event:
        stored = super()._keep(event)
        return msgspec.structs.replace(stored, key=event.key, value=event.value)


class TakesIdsWithoutCase(SoundStore):
    def _keep(self, event: Event) -> Event:
        return super()._keep(msgspec.structs.replace(event, id=event.id.lower()))


class FollowsAClockThatIsSetBack(SoundStore):
    def _keep(self, event: Event) -> Event:
        self._last_ms = 0
        return super()._keep(event)


class TakesNoneForEmpty(SoundStore):
    def _keep(self, event: Event) -> Event:
        return super()._keep(msgspec.structs.replace(event, value=event.value or ""))


class MixesLists(SoundStore):
    """Lets another append between two events of a list."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._appended = threading.Event()

    def append(self, events: Sequence[Event]) -> list[Event]:
        for event in events:
            check_event(event)
        stored = []
        for event in events:
            stored += super().append([event])
            if stored[0].offset == 1:
                self._appended.wait(1)
            self._appended.set()
        return stored


class ShowsWhatComesLaterFirst(SoundStore):
    """The offsets of the first list are taken, and the list is not there yet, as in a database
    that counts by itself."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._overtaken = threading.Event()

    def read(self, after: int = 0, **how: Any) -> list[Event]:
        events = super().read(after, **how)
        if self._overtaken.is_set() or not events:
            return events
        late = [event for event in events if event.offset > 2]
        if late:
            self._overtaken.set()
        return late


# --- reading ---


class LimitsBeforeItFilters(SoundStore):
    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        found = super().read(after, until=until, limit=limit)
        return [event for event in found if filter.matches(event)]


class CountsBeyondTheRange(SoundStore):
    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        return super().count(filter)


class FindsTheMomentAfter(SoundStore):
    def offset_at(self, time_ms: int) -> int:
        return super().offset_at(time_ms + 1)


class GivesOffsetsAgain(SoundStore):
    def truncate(self, before: int) -> int:
        gone = super().truncate(before)
        self._head = self._events[-1].offset if self._events else 0
        return gone


class RemembersDeletedIds(SoundStore):
    def truncate(self, before: int) -> int:
        known = dict(self._by_id)
        gone = super().truncate(before)
        self._by_id.update(known)
        return gone


# --- subscriptions ---


class _Subscribes(SoundStore):
    kind: type[MemorySubscription]

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> MemorySubscription:
        return self.kind(self, after, filter)


class SubscribesFromNow(SoundStore):
    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> MemorySubscription:
        return super().subscribe(self.head(), filter)


class LosesWhatIsNotTakenQuickly(_Subscribes):
    class kind(MemorySubscription):
        def _has_news(self) -> bool:
            if self._position:
                self._position = max(self._position, self._store._head - 1000)
            return super()._has_news()


class YieldsTheLastOnceMore(SoundStore):
    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> MemorySubscription:
        return super().subscribe(max(after - 1, 0), filter)


class LeavesTheOneWhoWaits(_Subscribes):
    class kind(MemorySubscription):
        def close(self) -> None:
            self._closed = True


class ClosesAllForOne(_Subscribes):
    class kind(MemorySubscription):
        def close(self) -> None:
            self._store.close()


class LeavesItsSubscriptions(SoundStore):
    def close(self) -> None:
        pass


class LeavesAFileOpen(SoundStore):
    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> MemorySubscription:
        self.__dict__.setdefault("files", []).append(os.open(os.devnull, os.O_RDONLY))
        return super().subscribe(after, filter)


# --- durability, errors ---


class AnswersBeforeItKeeps(SoundStore):
    def reopened(self) -> SoundStore:
        return self.anew(_events=self._events[:-1], _head=self._head - 1)


class KeepsIdsInTheProcess(SoundStore):
    def reopened(self) -> SoundStore:
        return self.anew(_by_id={})


class CountsWhatItFinds(SoundStore):
    def reopened(self) -> SoundStore:
        return self.anew(_head=len(self._events))


class ForgetsTheTime(SoundStore):
    def reopened(self) -> SoundStore:
        return self.anew(_last_ms=0)


class CountsForItself(SoundStore):
    def reopened(self) -> SoundStore:
        return self.anew()


class SaysAnything(SoundStore):
    def unreachable(self) -> Any:
        return Unreachable(AIFlowError("connection refused"))


CAUGHT = {
    KeepsHalfAList: "what_not_every_store_could_keep_is_refused_with_the_whole_list",
    AppendsRepeats: "a_repeated_event_is_not_appended_again",
    BurnsOffsetsForRepeats: "a_repeat_burns_no_offset",
    AnswersWithTheSecond: "the_first_of_two_events_with_one_id_counts",
    TakesIdsWithoutCase: "ids_that_are_nearly_equal_are_different",
    FollowsAClockThatIsSetBack: "create_time_never_decreases_when_the_clock_is_set_back",
    TakesNoneForEmpty: "no_value_and_an_empty_value_stay_apart",
    MixesLists: "concurrent_lists_stay_whole_and_leave_no_gap",
    ShowsWhatComesLaterFirst: "a_reader_never_sees_a_gap_while_others_append",
    LimitsBeforeItFilters: "the_limit_counts_wanted_events_only",
    CountsBeyondTheRange: "count_is_by_sender_and_within_the_range",
    FindsTheMomentAfter: "reading_after_offset_at_yields_what_came_at_that_time_or_later",
    GivesOffsetsAgain: "offsets_of_deleted_events_are_never_given_again",
    RemembersDeletedIds: "ids_of_deleted_events_are_forgotten",
    SubscribesFromNow: "a_subscription_yields_the_past_and_then_what_comes",
    LosesWhatIsNotTakenQuickly: "a_slow_subscriber_loses_nothing",
    YieldsTheLastOnceMore: (
        "who_subscribes_again_where_he_left_off_misses_nothing_and_sees_nothing_twice"
    ),
    LeavesTheOneWhoWaits: "closing_ends_an_iteration_that_waits_in_another_thread",
    ClosesAllForOne: "closing_one_subscription_leaves_the_others",
    LeavesItsSubscriptions: "closing_the_store_ends_all_subscriptions",
    LeavesAFileOpen: "subscriptions_that_were_closed_leave_nothing_open",
    AnswersBeforeItKeeps: "what_was_appended_is_there_for_whoever_opens_the_log_next",
    KeepsIdsInTheProcess: "ids_are_known_to_whoever_opens_the_log_next",
    CountsWhatItFinds: "offsets_of_deleted_events_stay_used_for_whoever_opens_the_log_next",
    ForgetsTheTime: "create_time_does_not_decrease_for_whoever_opens_the_log_next",
    CountsForItself: "those_who_opened_one_log_give_offsets_in_turn",
    SaysAnything: "a_log_that_does_not_answer_is_said_to_be_unavailable",
}


class TestSoundStore(DurableEventStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> SoundStore:
        return SoundStore(clock)

    @pytest.fixture
    def reopen(self, store: SoundStore) -> Any:
        return store.reopened

    @pytest.fixture
    def unreachable(self, store: SoundStore) -> Any:
        return store.unreachable()


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda cls: cls.__name__)
def test_a_broken_event_store_is_caught(
    broken: type[SoundStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits long for what will not come.
    monkeypatch.setattr(aiflow_core.testing.event_store, "DEADLINE", 0.5)
    monkeypatch.setattr(aiflow_core.testing.waiting, "PATIENCE", 0.5)
    case = getattr(DurableEventStoreContract(), f"test_{CAUGHT[broken]}")
    clock = ManualClock()
    store = broken(clock)
    given = {"store": store, "clock": clock, "reopen": store.reopened}
    with ExitStack() as stack:
        # Also one that does not end its subscriptions: their threads would stay.
        stack.callback(lambda: MemoryEventStore.close(store))
        stack.callback(lambda: [os.close(file) for file in getattr(store, "files", [])])
        wanted = inspect.signature(case).parameters
        if "unreachable" in wanted:
            given["unreachable"] = store.unreachable()
        # The second is for the error that should have been raised, when there was none; the last
        # for another in its place.
        errors = (AssertionError, pytest.fail.Exception)
        with pytest.raises(errors + ((AIFlowError,) if "unreachable" in wanted else ())):
            case(**{name: given[name] for name in wanted})
