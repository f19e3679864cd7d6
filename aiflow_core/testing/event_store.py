"""EventStore: what every implementation must pass, and a complete one in memory."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import ClassVar

import msgspec
import pytest

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError, UsageError
from aiflow_core.model.event import (
    EVERYTHING,
    Event,
    EventFilter,
    EventType,
    key_matches,
    new_event_id,
)
from aiflow_core.specs.event_store import MAX_EVENT_BYTES, EventStore, Subscription, check_event
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.waiting import wait_until

DEADLINE = 20.0
"""Seconds of real time after which a test gives up waiting for an event."""


class MemoryEventStore(EventStore):
    """The log in this process's memory: complete, but gone with the process."""

    def __init__(self, clock: Clock | None = None, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._clock = clock or Clock()
        self._max_event_bytes = max_event_bytes
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._by_id: dict[str, Event] = {}
        self._head = 0
        self._last_ms = 0
        self._closed = False

    def append(self, events: Sequence[Event]) -> list[Event]:
        for event in events:
            check_event(event, self._max_event_bytes)
        with self._changed:
            stored = [self._keep(event) for event in events]
            self._changed.notify_all()
        return stored

    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        with self._changed:
            return [event for event in self._between(after, until) if filter.matches(event)][:limit]

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> "MemorySubscription":
        return MemorySubscription(self, after, filter)

    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        with self._changed:
            wanted = filter.matches
            return Counter(e.sender for e in self._between(after, until) if wanted(e))

    def head(self) -> int:
        with self._changed:
            return self._head

    def offset_at(self, time_ms: int) -> int:
        with self._changed:
            later = (event.offset - 1 for event in self._events if event.create_time >= time_ms)
            return next(later, self._head)

    def truncate(self, before: int) -> int:
        with self._changed:
            gone = self._between(0, before - 1)
            del self._events[: len(gone)]
            for event in gone:
                del self._by_id[event.id]
            return len(gone)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _keep(self, event: Event) -> Event:
        id = event.id or new_event_id()
        if id not in self._by_id:
            self._head += 1
            self._last_ms = max(self._last_ms, self._clock.now_ms())
            self._by_id[id] = msgspec.structs.replace(
                event, id=id, offset=self._head, create_time=self._last_ms
            )
            self._events.append(self._by_id[id])
        return self._by_id[id]

    def _between(self, after: int, until: int | None) -> list[Event]:
        # Offsets have no gaps, so they say where an event stands.
        gone = self._head - len(self._events)
        end = self._head if until is None else until
        return self._events[max(after - gone, 0) : max(end - gone, 0)]


class MemorySubscription(Subscription):
    """Waits for its store to change."""

    def __init__(self, store: MemoryEventStore, after: int, filter: EventFilter) -> None:
        self._store, self._position, self._filter = store, after, filter
        self._closed = False

    def __iter__(self) -> Iterator[list[Event]]:
        while True:
            with self._store._changed:
                self._store._changed.wait_for(self._has_news)
                if self._ended():
                    return
                events = self._store._between(self._position, None)
                self._position = self._store._head
            wanted = [event for event in events if self._filter.matches(event)]
            if wanted:
                yield wanted

    def close(self) -> None:
        with self._store._changed:
            self._closed = True
            self._store._changed.notify_all()

    def _ended(self) -> bool:
        return self._closed or self._store._closed

    def _has_news(self) -> bool:
        return self._ended() or self._store._head > self._position


class Follower:
    """Takes the events of a subscription in a thread of its own."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._batches: Queue[list[Event]] = Queue()
        self._thread = threading.Thread(target=self._run, name="follower")
        self._thread.start()

    def take(self, count: int, timeout: float | None = None) -> list[Event]:
        """The next `count` events (more when the last batch holds more)."""
        taken: list[Event] = []
        while len(taken) < count:
            try:
                taken += self._batches.get(timeout=DEADLINE if timeout is None else timeout)
            except Empty:
                raise AssertionError(f"{len(taken)} of {count} events came: {taken}") from None
        return taken

    def await_end(self, timeout: float | None = None) -> None:
        """Return when the iteration has ended."""
        self._thread.join(DEADLINE if timeout is None else timeout)
        assert not self._thread.is_alive(), "the subscription did not end"

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *exc: object) -> None:
        self._subscription.close()
        self.await_end()

    def _run(self) -> None:
        for batch in self._subscription:
            assert batch, "an empty list was yielded"
            self._batches.put(batch)


class EventStoreContract:
    """The promises of `EventStore`.

    A subclass supplies the fixture `store`: empty, and on the time of the fixture `clock`.
    """

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    # --- appending ---

    def test_a_new_log_is_empty(self, store: EventStore) -> None:
        assert store.head() == 0
        assert store.read() == []
        assert store.count() == {}

    def test_offsets_begin_at_one_and_follow_the_order_of_appending(
        self, store: EventStore
    ) -> None:
        first = store.append([Event("a"), Event("b")])
        second = store.append([Event("c")])

        assert [event.offset for event in first + second] == [1, 2, 3]
        assert store.head() == 3
        assert store.read() == first + second

    def test_an_event_comes_back_as_it_was_given(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        given = Event(
            key="k",
            value="v",
            namespace="ns",
            sender="me",
            context='{"workflow_execution_id": 7}',
            type=EventType.TIMER,
            id="my-id",
        )

        (stored,) = store.append([given])

        expected = msgspec.structs.replace(given, offset=1, create_time=clock.now_ms())
        assert stored == expected
        assert store.read() == [expected]

    def test_offset_and_create_time_of_the_argument_mean_nothing(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        (stored,) = store.append([Event("k", offset=99, create_time=5)])

        assert (stored.offset, stored.create_time) == (1, clock.now_ms())

    def test_no_value_and_an_empty_value_stay_apart(self, store: EventStore) -> None:
        store.append([Event("none", None), Event("empty", "")])

        assert [event.value for event in store.read()] == [None, ""]

    def test_every_kind_of_text_is_kept(self, store: EventStore) -> None:
        texts = [
            *("Ünïcödé", "日本語", "🦊🧡", "a\u0301", "\u202eabc", "\x7f\x01", "%_/\\'\"`*?[]"),
            *(" a ", "a ", "a", "A", "\n\r\t", "x" * 100_000),
        ]

        store.append([Event("k", value=text, context=text) for text in texts])
        store.append([Event(text, "v", text, text) for text in texts[:-1]])

        kept = store.read()
        assert [event.value for event in kept[: len(texts)]] == texts
        assert [event.context for event in kept[: len(texts)]] == texts
        for text, event in zip(texts[:-1], kept[len(texts) :], strict=True):
            assert (event.key, event.namespace, event.sender) == (text, text, text)

    def test_an_empty_list_changes_nothing(self, store: EventStore) -> None:
        assert store.append([]) == []
        assert store.head() == 0

    def test_a_long_list_is_appended_whole(self, store: EventStore) -> None:
        stored = store.append([Event(f"key-{n}", str(n)) for n in range(3000)])

        assert [event.offset for event in stored] == list(range(1, 3001))
        assert store.read(limit=5000) == stored

    def test_create_time_never_decreases_when_the_clock_is_set_back(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        (before,) = store.append([Event("k")])
        clock.jump(-3600)
        (after,) = store.append([Event("k")])
        clock.jump(7200)
        (later,) = store.append([Event("k")])

        assert after.create_time == before.create_time
        assert later.create_time == before.create_time + 3_600_000

    # --- idempotence ---

    def test_an_event_without_id_is_given_one(self, store: EventStore) -> None:
        first, second = store.append([Event("k"), Event("k")])

        assert first.id
        assert second.id
        assert first.id != second.id

    def test_a_repeated_event_is_not_appended_again(self, store: EventStore) -> None:
        event = Event("k", "v", id="once")
        first = store.append([event])

        again = store.append([event])

        assert again == first
        assert store.head() == 1

    def test_the_first_of_two_events_with_one_id_counts(self, store: EventStore) -> None:
        first = store.append([Event("k", "first", id="once")])

        assert store.append([Event("other", "second", id="once")]) == first

    def test_a_repeat_inside_one_list_is_one_event(self, store: EventStore) -> None:
        stored = store.append([Event("a", id="x"), Event("b"), Event("a", id="x")])

        assert [event.offset for event in stored] == [1, 2, 1]
        assert store.head() == 2

    def test_a_repeat_burns_no_offset(self, store: EventStore) -> None:
        store.append([Event("a", id="x"), Event("b", id="y")])

        stored = store.append([Event("c"), Event("b", id="y"), Event("d"), Event("a", id="x")])

        assert [event.offset for event in stored] == [3, 2, 4, 1]
        assert store.head() == 4

    def test_ids_that_are_nearly_equal_are_different(self, store: EventStore) -> None:
        ids = ["id", "ID", "id ", " id", "íd", "i\u0301d"]
        store.append([Event("k", id=id) for id in ids])

        assert [event.id for event in store.read()] == ids

    def test_of_many_who_append_one_event_at_the_same_time_one_succeeds(
        self, store: EventStore
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            stored = list(
                pool.map(lambda n: store.append([Event("k", str(n), id="once")]), range(16))
            )

        assert all(result == stored[0] for result in stored)
        assert store.head() == 1

    # --- refusal ---

    def test_what_not_every_store_could_keep_is_refused_with_the_whole_list(
        self, store: EventStore
    ) -> None:
        unacceptable = [
            *(Event("a\0b"), Event("k", "a\0b"), Event("k", namespace="a\0b")),
            *(Event("k", sender="a\0b"), Event("k", context="a\0b"), Event("k", id="a\0b")),
            Event("k", "half a character: \ud83e"),
            *(Event("k" * 1025), Event("k", namespace="n" * 256), Event("k", id="i" * 256)),
            Event("k", "v" * (MAX_EVENT_BYTES + 1)),
            Event("k", 5),  # type: ignore[arg-type]
        ]

        for event in unacceptable:
            with pytest.raises(UsageError):
                store.append([Event("good"), event, Event("good")])

        assert store.read() == []
        assert store.append([Event("good")])[0].offset == 1

    def test_the_longest_keys_are_kept_and_found(self, store: EventStore) -> None:
        keys = ["k" * 1024, "k" * 1023 + "l", "🦊" * 1024]
        store.append([Event(key) for key in keys])

        for key in keys:
            assert [e.key for e in store.read(filter=EventFilter(keys=(key,)))] == [key]

    # --- concurrency ---

    def test_concurrent_lists_stay_whole_and_leave_no_gap(self, store: EventStore) -> None:
        def produce(producer: int) -> list[list[Event]]:
            return [
                store.append([Event(f"{producer}.{turn}.{n}") for n in range(3)])
                for turn in range(10)
            ]

        with ThreadPoolExecutor(8) as pool:
            lists = [events for lists in pool.map(produce, range(8)) for events in lists]

        stored = store.read()
        assert [event.offset for event in stored] == list(range(1, 8 * 10 * 3 + 1))
        for events in lists:
            first = events[0].offset
            assert stored[first - 1 : first + 2] == events

    def test_one_producer_s_events_stand_in_his_order(self, store: EventStore) -> None:
        def produce(sender: str) -> None:
            for n in range(20):
                store.append([Event(str(n), sender=sender)])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(produce, "abcd"))

        for sender in "abcd":
            events = store.read(filter=EventFilter(sender=sender))
            assert [event.key for event in events] == [str(n) for n in range(20)]

    def test_a_reader_never_sees_a_gap_while_others_append(self, store: EventStore) -> None:
        done = threading.Event()

        def produce(producer: int) -> None:
            for _ in range(30):
                store.append([Event("k"), Event("k")])

        def read() -> list[int]:
            seen: list[int] = []
            while True:
                last = done.is_set()
                seen += [event.offset for event in store.read(after=seen[-1] if seen else 0)]
                if last:
                    return seen

        with ThreadPoolExecutor(5) as pool:
            reader = pool.submit(read)
            list(pool.map(produce, range(4)))
            done.set()

            assert reader.result() == list(range(1, 4 * 30 * 2 + 1))

    # --- reading ---

    def test_after_until_and_limit_cut_out_a_part(self, store: EventStore) -> None:
        store.append([Event(str(n)) for n in range(1, 11)])

        def keys(after: int = 0, until: int | None = None, limit: int = 1000) -> list[str]:
            return [event.key for event in store.read(after, until=until, limit=limit)]

        assert keys(after=7) == ["8", "9", "10"]
        assert keys(until=2) == ["1", "2"]
        assert keys(after=4, until=6) == ["5", "6"]
        assert keys(limit=2) == ["1", "2"]
        assert keys(after=8, limit=1) == ["9"]
        assert keys(after=10) == []
        assert keys(after=99) == []
        assert keys(after=6, until=4) == []
        assert keys(until=0) == []
        assert keys(limit=0) == []

    def test_the_limit_counts_wanted_events_only(self, store: EventStore) -> None:
        store.append([Event("wanted" if n % 10 == 9 else "other", str(n)) for n in range(50)])

        events = store.read(limit=3, filter=EventFilter(keys=("wanted",)))

        assert [event.value for event in events] == ["9", "19", "29"]

    FILTERS: ClassVar[list[tuple[EventFilter, str]]] = [
        (EventFilter(), "abcdefgh"),
        (EventFilter(keys=("model.ready",)), "a"),
        (EventFilter(keys=("model.ready", "data")), "ad"),
        (EventFilter(keys=("model.*",)), "ace"),
        (EventFilter(keys=("*.ready",)), "abe"),
        (EventFilter(keys=("m*l*y",)), "ae"),
        (EventFilter(keys=("*",)), "abcdefgh"),
        (EventFilter(keys=("m*", "data")), "acde"),
        (EventFilter(keys=("nothing",)), ""),
        (EventFilter(keys=("model_ready",)), ""),
        (EventFilter(keys=("[a]%?*",)), "h"),
        (EventFilter(namespace="one"), "abc"),
        (EventFilter(namespace=""), "fgh"),
        (EventFilter(namespace="ONE"), ""),
        (EventFilter(namespace="one "), ""),
        (EventFilter(sender="alice"), "ad"),
        (EventFilter(sender=""), "cefgh"),
        (EventFilter(types=(EventType.TIMER,)), "g"),
        (EventFilter(types=(EventType.TIMER, EventType.COMMAND)), "fg"),
        (EventFilter(keys=("*ready",), namespace="one", sender="bob"), "b"),
    ]

    def test_a_filter_wants_exactly_what_it_says(self, store: EventStore) -> None:
        store.append(
            [
                Event("model.ready", "a", "one", "alice"),
                Event("MODEL.ready", "b", "one", "bob"),
                Event("model.", "c", "one"),
                Event("data", "d", "two", "alice"),
                Event("model.🦊.ready", "e", "two"),
                Event("x", "f", type=EventType.COMMAND),
                Event("100%", "g", type=EventType.TIMER),
                Event("[a]%?b", "h"),
            ]
        )

        def values(events: Sequence[Event]) -> str:
            return "".join(event.value or "" for event in events)

        for filter, wanted in self.FILTERS:
            assert values(store.read(filter=filter)) == wanted, filter
            assert sum(store.count(filter).values()) == len(wanted), filter
            with Follower(store.subscribe(0, filter)) as follower:
                assert values(follower.take(len(wanted))) == wanted, filter

    def test_a_wildcard_means_the_same_in_every_store(self, store: EventStore) -> None:
        keys = "a A b ab aXb aba abba a_ ax a% a/ a/b a\\ a\\b a? [a] [a]b ä äb x🦊 a[ a] a^ it's"
        store.append([Event(key) for key in (*keys.split(), "", "a ", " a")])
        stored = [event.key for event in store.read()]

        patterns = (
            "a* *a *a* a*b a**b a_* a%* a/* a\\* A* a?* [a]* *] *b*a ä* *🦊 a[* a]* [^a]* *'*"
        )
        for pattern in (*patterns.split(), "* ", "*"):
            found = [event.key for event in store.read(filter=EventFilter(keys=(pattern,)))]
            assert found == [key for key in stored if key_matches(pattern, key)], pattern

    def test_count_is_by_sender_and_within_the_range(self, store: EventStore) -> None:
        store.append([Event("k", sender=sender) for sender in ("a", "b", "a", "", "A", "a ")])

        assert store.count() == {"a": 2, "b": 1, "": 1, "A": 1, "a ": 1}
        assert store.count(after=1, until=4) == {"a": 1, "b": 1, "": 1}
        assert store.count(EventFilter(sender="b"), after=2) == {}

    # --- time ---

    def test_reading_after_offset_at_yields_what_came_at_that_time_or_later(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        begin = clock.now_ms()
        store.append([Event("a"), Event("b")])
        clock.advance(1)
        store.append([Event("c")])
        store.append([Event("d")])
        clock.advance(1)
        store.append([Event("e")])

        def keys_since(time_ms: int) -> str:
            return "".join(event.key for event in store.read(store.offset_at(time_ms)))

        assert keys_since(0) == "abcde"
        assert keys_since(begin) == "abcde"
        assert keys_since(begin + 1) == "cde"
        assert keys_since(begin + 1000) == "cde"
        assert keys_since(begin + 2000) == "e"
        assert keys_since(begin + 2001) == ""
        assert store.offset_at(begin + 2001) == 5

    def test_in_an_empty_log_every_time_is_before_the_first_event(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        assert store.offset_at(clock.now_ms()) == 0

    # --- truncating ---

    def test_truncate_deletes_the_events_before_an_offset(self, store: EventStore) -> None:
        store.append([Event(str(n)) for n in range(1, 6)])

        assert store.truncate(3) == 2
        assert [event.offset for event in store.read()] == [3, 4, 5]
        assert sum(store.count().values()) == 3
        assert store.truncate(3) == 0

    def test_offsets_of_deleted_events_are_never_given_again(self, store: EventStore) -> None:
        store.append([Event("a"), Event("b")])

        assert store.truncate(99) == 2
        assert store.head() == 2
        assert store.append([Event("c")])[0].offset == 3

    def test_ids_of_deleted_events_are_forgotten(self, store: EventStore) -> None:
        store.append([Event("k", id="once"), Event("k")])
        store.truncate(2)

        assert store.append([Event("k", id="once")])[0].offset == 3

    def test_create_time_does_not_decrease_over_a_truncation(
        self, store: EventStore, clock: ManualClock
    ) -> None:
        (before,) = store.append([Event("k")])
        store.truncate(2)
        clock.jump(-3600)

        assert store.append([Event("k")])[0].create_time == before.create_time

    def test_a_subscription_goes_on_behind_what_was_deleted(self, store: EventStore) -> None:
        store.append([Event(str(n)) for n in range(1, 6)])
        store.truncate(4)

        with Follower(store.subscribe(1)) as follower:
            assert [event.key for event in follower.take(2)] == ["4", "5"]

    # --- subscriptions ---

    def test_a_subscription_yields_the_past_and_then_what_comes(self, store: EventStore) -> None:
        store.append([Event("a"), Event("b"), Event("c")])

        with Follower(store.subscribe(1)) as follower:
            assert [event.key for event in follower.take(2)] == ["b", "c"]
            stored = store.append([Event("d")])
            assert follower.take(1) == stored

    def test_a_subscription_from_the_head_yields_only_what_comes(self, store: EventStore) -> None:
        store.append([Event("a")])

        with Follower(store.subscribe(store.head())) as follower:
            stored = store.append([Event("b"), Event("c")])
            assert follower.take(2) == stored

    def test_a_subscription_may_wait_for_an_offset_to_come(self, store: EventStore) -> None:
        with Follower(store.subscribe(2)) as follower:
            store.append([Event("a")])
            store.append([Event("b")])
            store.append([Event("c")])
            assert [event.offset for event in follower.take(1)] == [3]

    def test_a_repeated_event_is_not_yielded_again(self, store: EventStore) -> None:
        with Follower(store.subscribe(0)) as follower:
            store.append([Event("a", id="once")])
            store.append([Event("a", id="once")])
            store.append([Event("b")])
            assert [event.key for event in follower.take(2)] == ["a", "b"]

    def test_a_filtered_subscription_finds_the_few_among_the_many(self, store: EventStore) -> None:
        filter = EventFilter(keys=("wanted",))
        store.append([Event("other") for _ in range(2500)])
        store.append([Event("wanted", "1")])

        with Follower(store.subscribe(0, filter)) as follower:
            assert [event.value for event in follower.take(1)] == ["1"]
            store.append([Event("other") for _ in range(1500)])
            store.append([Event("wanted", "2"), Event("other")])
            assert [event.value for event in follower.take(1)] == ["2"]

    def test_every_subscriber_gets_everything(self, store: EventStore) -> None:
        followers = [Follower(store.subscribe(0)) for _ in range(5)]
        stored = [event for n in range(20) for event in store.append([Event(str(n))])]

        for follower in followers:
            with follower:
                assert follower.take(20) == stored

    def test_a_slow_subscriber_loses_nothing(self, store: EventStore) -> None:
        with store.subscribe(0) as subscription:
            batches = iter(subscription)
            store.append([Event("first")])
            seen = [event.offset for event in next(batches)]
            for _ in range(5):
                store.append([Event("k") for _ in range(700)])

            while seen[-1] < 3501:
                seen += [event.offset for event in next(batches)]

        assert seen == list(range(1, 3502))

    def test_subscribers_see_every_event_in_order_while_many_append(
        self, store: EventStore
    ) -> None:
        with (
            Follower(store.subscribe(0)) as all_of_it,
            Follower(store.subscribe(0, EventFilter(sender="2"))) as some_of_it,
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(lambda n: store.append([Event(str(n), sender=str(n % 4))]), range(200)))

            assert [event.offset for event in all_of_it.take(200)] == list(range(1, 201))
            some = some_of_it.take(50)
            assert some == store.read(filter=EventFilter(sender="2"))

    def test_closing_ends_an_iteration_that_waits_in_another_thread(
        self, store: EventStore
    ) -> None:
        subscription = store.subscribe(0)
        follower = Follower(subscription)
        store.append([Event("a")])
        follower.take(1)

        subscription.close()
        subscription.close()

        follower.await_end()
        assert list(subscription) == []

    def test_closing_one_subscription_leaves_the_others(self, store: EventStore) -> None:
        first, second = store.subscribe(0), store.subscribe(0)
        with Follower(second) as follower:
            first.close()
            store.append([Event("a")])
            assert [event.key for event in follower.take(1)] == ["a"]

    def test_closing_the_store_ends_all_subscriptions(self, store: EventStore) -> None:
        followers = [Follower(store.subscribe(0)) for _ in range(3)]
        store.append([Event("a")])
        for follower in followers:
            follower.take(1)

        store.close()
        store.close()

        for follower in followers:
            follower.await_end()

    def test_who_subscribes_again_where_he_left_off_misses_nothing_and_sees_nothing_twice(
        self, store: EventStore
    ) -> None:
        seen: list[int] = []
        with ThreadPoolExecutor(4) as pool:
            appended = [pool.submit(store.append, [Event("k")] * 3) for _ in range(40)]
            while len(seen) < 120:
                with store.subscribe(seen[-1] if seen else 0) as subscription:
                    seen += [event.offset for event in next(iter(subscription))]
            for each in appended:
                each.result()

        assert seen == list(range(1, 121))

    def test_subscriptions_that_were_closed_leave_nothing_open(self, store: EventStore) -> None:
        store.append([Event("a")])

        def subscribe_and_close() -> None:
            follower = Follower(store.subscribe(0))
            with follower:
                follower.take(1)

        for _ in range(3):  # what a store keeps for the next ones
            subscribe_and_close()
        before = _held()
        for _ in range(20):
            subscribe_and_close()

        wait_until(lambda: _held() <= before + 5, f"of 20 subscriptions {before} things are left")


class DurableEventStoreContract(EventStoreContract):
    """The promises of an `EventStore` whose log outlives the one who appends to it.

    A subclass also supplies the fixture `reopen`, which opens the log of `store` once more, as
    another process would, without closing the first; and the fixture `unreachable`: a store whose
    database or server does not answer.
    """

    # --- durability ---

    def test_what_was_appended_is_there_for_whoever_opens_the_log_next(
        self, store: EventStore, reopen: Callable[[], EventStore]
    ) -> None:
        stored = store.append([Event("a", "1", id="once"), Event("b", None, "ns", "me", "{}")])
        stored += store.append([Event("c")])

        again = reopen()

        assert again.read() == stored
        assert again.head() == 3
        assert again.count() == {"": 2, "me": 1}

    def test_ids_are_known_to_whoever_opens_the_log_next(
        self, store: EventStore, reopen: Callable[[], EventStore]
    ) -> None:
        first = store.append([Event("k", "v", id="once")])

        assert reopen().append([Event("k", "v", id="once"), Event("new")])[:1] == first
        assert store.head() == 2

    def test_offsets_of_deleted_events_stay_used_for_whoever_opens_the_log_next(
        self, store: EventStore, reopen: Callable[[], EventStore]
    ) -> None:
        store.append([Event("a"), Event("b")])
        store.truncate(3)

        again = reopen()

        assert again.head() == 2
        assert again.append([Event("c")])[0].offset == 3

    def test_create_time_does_not_decrease_for_whoever_opens_the_log_next(
        self, store: EventStore, clock: ManualClock, reopen: Callable[[], EventStore]
    ) -> None:
        (before,) = store.append([Event("k")])
        clock.jump(-3600)

        assert reopen().append([Event("k")])[0].create_time == before.create_time

    def test_those_who_opened_one_log_give_offsets_in_turn(
        self, store: EventStore, reopen: Callable[[], EventStore]
    ) -> None:
        another = reopen()

        offsets = [
            each.append([Event("k")])[0].offset for _ in range(3) for each in (store, another)
        ]

        assert offsets == [1, 2, 3, 4, 5, 6]
        assert [event.offset for event in another.read()] == offsets

    def test_a_subscription_goes_on_where_one_of_another_process_left_off(
        self, store: EventStore, reopen: Callable[[], EventStore]
    ) -> None:
        store.append([Event("a"), Event("b")])
        with Follower(store.subscribe(0)) as follower:
            left_off = follower.take(2)[-1].offset
        store.append([Event("c")])

        with Follower(reopen().subscribe(left_off)) as follower:
            assert [event.key for event in follower.take(1)] == ["c"]

    # --- errors ---

    def test_a_log_that_does_not_answer_is_said_to_be_unavailable(
        self, unreachable: EventStore
    ) -> None:
        for call in (
            lambda: unreachable.append([Event("k")]),
            unreachable.read,
            unreachable.count,
            unreachable.head,
            lambda: unreachable.offset_at(0),
            lambda: unreachable.truncate(1),
        ):
            with pytest.raises(UnavailableError):
                call()


def _held() -> int:
    """The threads and open files of this process."""
    return threading.active_count() + len(os.listdir("/dev/fd"))
