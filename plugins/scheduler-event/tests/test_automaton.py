"""The automaton makes of every history, however it is cut, what the reference makes of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_core.model.algebra import (
    MOST_KEPT,
    MOST_KEPT_CHARACTERS,
    Pattern,
    absent,
    all_of,
    any_of,
    batch,
    count,
    debounce,
    event,
    sequence,
    throttle,
)
from aiflow_core.model.event import Event
from aiflow_scheduler_event.automaton import Look, look
from aiflow_scheduler_event.pattern_memory import Cell

from .algebra_reference import Seen, matches

NOTHING = Look(None, {}, [], [], None, [], Cell())

few = st.integers(0, 1)
seconds = st.integers(1, 5).map(float)
windows = st.none() | seconds
groups = st.sampled_from([(), ("value.g",), ("key",)])
consumption = st.sampled_from(["all", "latest", "first"])
singles = st.builds(
    lambda key, tests: event(key).where(tests),
    st.sampled_from("aabbc"),
    st.just({}) | st.dictionaries(st.sampled_from(["value.g", "value.v"]), few, max_size=1),
)


def larger(parts: st.SearchStrategy[Pattern]) -> st.SearchStrategy[Pattern]:
    several = st.lists(parts, min_size=1, max_size=3)
    in_order = st.lists(
        singles | st.builds(lambda ps: any_of(*ps), st.lists(singles, min_size=1, max_size=2)),
        min_size=1,
        max_size=4,
    )
    return st.one_of(
        st.builds(lambda ps, w, b, c: all_of(*ps, within=w, by=b, consume=c),
                  several, windows, groups, consumption),
        st.builds(lambda ps: any_of(*ps), several),
        st.builds(lambda ps, w, b, c: sequence(*ps, within=w, by=b, consume=c),
                  in_order, windows, groups, consumption),
        st.builds(lambda p, n, w, b, d: count(p, n, within=w, by=b, distinct=d),
                  parts, st.integers(1, 3), windows, groups, st.sampled_from(["", "value.v"])),
        st.builds(lambda p, a, w, b: absent(p, after=a, within=w, by=b),
                  parts, parts, seconds, groups),
        st.builds(lambda p, s, b: debounce(p, s, by=b), parts, seconds, groups),
        st.builds(lambda p, s, b: throttle(p, s, by=b), parts, seconds, groups),
        st.builds(lambda p, m, w, b: batch(p, max=m, within=w, by=b),
                  parts, st.integers(1, 3), windows, groups),
        st.builds(lambda p, w, b: batch(p, within=w, by=b), parts, seconds, groups),
    )  # fmt: skip


patterns = larger(st.recursive(singles, larger, max_leaves=4))

values = st.fixed_dictionaries({"g": few, "v": few}) | st.fixed_dictionaries(
    {}, optional={"g": few, "v": few}
)
# Half seconds fall into windows, whole ones on their ends, and the odd ones right behind these.
pauses = st.sampled_from([0, 1, 500, 1000, 2000, 2001, 5000])
histories = st.lists(st.tuples(pauses, st.sampled_from("aabbc"), values), min_size=3, max_size=16)
History = list[tuple[int, str, dict[str, int]]]


def told(history: History) -> list[Seen]:
    """The events of a history: each says how many milliseconds after the last it comes."""
    time, found = 0, []
    for number, (later, key, value) in enumerate(history):
        time += later
        found.append(Seen(number, time, Event(key, json.dumps(value), offset=number)))
    return found


def play(pattern: Pattern, history: list[Seen], until: int, wakes: list[bool]) -> list[tuple]:
    """The numbers of the events of each match, in order.

    Between two events the automaton is woken for all that ends there, or (`wakes`) is not: the
    timer is late.
    """
    memory, found = NOTHING, []

    def move(now: int, came: Event | None = None) -> None:
        nonlocal memory
        memory = look(pattern, memory.memory, memory.kept, now, came)
        assert not memory.forgotten
        found.extend(tuple(e.offset for e in m) for m in [*memory.due, *memory.met])

    for seen, wake in zip(history, wakes, strict=True):
        while wake and memory.wake is not None and memory.wake <= seen.time:
            assert memory.wake > 0
            move(memory.wake)
        move(seen.time, seen.event)
    while memory.wake is not None and memory.wake <= until:
        move(memory.wake)
    return found


@given(patterns, histories, st.data())
@settings(max_examples=500, deadline=None)
def test_every_history_leads_to_the_matches_of_the_reference(
    pattern: Pattern, history: History, data: st.DataObject
) -> None:
    seen = told(history)
    until = (seen[-1].time if seen else 0) + data.draw(st.sampled_from([0, 2000, 60_000]))
    wakes = data.draw(st.lists(st.booleans(), min_size=len(seen), max_size=len(seen)))

    expected = [hit.numbers for hit in matches(pattern, seen, until)]

    assert play(pattern, seen, until, wakes) == expected, str(pattern)


def fed(pattern: Pattern, events: list[Event], every: int = 1) -> tuple[list[int], list[int], Look]:
    """The sizes of the matches, the offsets of what was forgotten, and what is left."""
    memory, sizes, forgotten = NOTHING, [], []
    for number, came in enumerate(events):
        memory = look(pattern, memory.memory, memory.kept, number * every, came)
        sizes += [len(match) for match in [*memory.due, *memory.met]]
        forgotten += [e.offset for e in memory.forgotten]
        assert len(memory.kept) <= MOST_KEPT
    return sizes, forgotten, memory


def numbered(count: int, key: str = "a", value: str | None = None) -> list[Event]:
    return [Event(key, value, offset=number) for number in range(count)]


class TestBounds:
    @pytest.mark.parametrize(
        "pattern",
        [
            all_of(event("a"), event("b")),
            all_of(event("a"), event("b"), consume="first"),
            sequence(event("a"), event("b")),
            absent(event("b"), after=event("a"), within=1000),
            count(event("a"), 2, by="offset"),
            all_of(absent(event("b"), after=event("a"), within=1000, by="offset"), event("c")),
        ],
        ids=str,
    )
    def test_the_oldest_are_forgotten(self, pattern: Pattern) -> None:
        sizes, forgotten, left = fed(pattern, numbered(MOST_KEPT + 3))
        assert (sizes, forgotten) == ([], [0, 1, 2])
        assert [e.offset for e in left.kept.values()] == list(range(3, MOST_KEPT + 3))

    @pytest.mark.parametrize("consume", ["latest", "all"])
    def test_the_latest_alone_need_no_room(self, consume: str) -> None:
        pattern = all_of(event("a"), event("b"), consume=consume)
        _, _, left = fed(pattern, numbered(50))
        assert len(left.kept) == (1 if consume == "latest" else 50)

    @pytest.mark.parametrize(
        "pattern",
        [
            debounce(event("a"), 1000),
            batch(event("a"), within=1000),
            throttle(event("a"), 1000),
        ],
        ids=str,
    )
    def test_modifiers_forget_nothing_and_are_met_before_their_time(self, pattern: Pattern) -> None:
        sizes, forgotten, left = fed(pattern, numbered(2 * MOST_KEPT + 10))
        assert forgotten == []
        assert sum(sizes) + len(left.kept) == 2 * MOST_KEPT + 10
        assert max(sizes) == MOST_KEPT + 1

    def test_large_events_leave_room_for_fewer(self) -> None:
        large = "x" * (MOST_KEPT_CHARACTERS // 4)
        _, forgotten, left = fed(all_of(event("a"), event("b")), numbered(6, value=large))
        assert (forgotten, len(left.kept)) == ([0, 1, 2], 3)

    def test_what_can_be_part_of_no_match_any_more_makes_room_and_is_no_loss(self) -> None:
        plain = all_of(event("a"), event("b"), within=1)
        assert len(fed(plain, numbered(10), every=500)[2].kept) == 3
        by_value = all_of(event("a"), event("b"), within=1, by="offset")
        assert fed(by_value, numbered(MOST_KEPT + 10), every=500)[:2] == ([], [])

    def test_a_throttle_forgets_the_values_that_have_gone_quiet(self) -> None:
        quiet = throttle(event("a"), 1, by="offset")
        sizes, _, left = fed(quiet, numbered(50), every=500)
        assert sizes == [1] * 50
        assert str(left.memory).count("until") == 3

    def test_a_throttle_knows_so_many_values_at_once(self) -> None:
        _, _, left = fed(throttle(event("a"), 1000, by="offset"), numbered(MOST_KEPT + 5))
        assert str(left.memory).count("until") == MOST_KEPT

    def test_nothing_is_remembered_of_what_was_met(self) -> None:
        events = [Event("a", offset=0), Event("b", offset=1)]
        assert fed(all_of(event("a"), event("b"), by="namespace"), events)[2][:2] == (None, {})


def test_a_long_value_of_by_is_told_apart_from_another() -> None:
    events = [Event("a", json.dumps({"g": "x" * 1000 + end})) for end in "aba"]
    sizes, _, _ = fed(count(event("a"), 2, by="value.g"), events)
    assert sizes == [2]
