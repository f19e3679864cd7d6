"""The automaton makes of every history, however it is cut, what the reference makes of it."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_core.model.algebra import (
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

from .algebra_reference import Seen, matches

NOTHING = Look(None, {}, [], [], None, [])

seconds = st.integers(1, 5).map(float)
windows = st.none() | seconds
groups = st.sampled_from([(), ("value.g",), ("key",)])
consumption = st.sampled_from(["all", "latest", "first"])
singles = st.builds(
    lambda key, tests: event(key).where(tests),
    st.sampled_from("abc"),
    st.dictionaries(st.sampled_from(["value.g", "value.v"]), st.integers(0, 2), max_size=1),
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

values = st.fixed_dictionaries({}, optional={"g": st.integers(0, 2), "v": st.integers(0, 2)})
histories = st.lists(
    # The half seconds fall into windows, the whole ones on their ends, and 1 ms right behind.
    st.tuples(st.sampled_from([0, 1, 500, 1000, 2000, 2001, 5000]), st.sampled_from("abc"), values),
    max_size=14,
)
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
@settings(max_examples=600, deadline=None)
def test_every_history_leads_to_the_matches_of_the_reference(
    pattern: Pattern, history: History, data: st.DataObject
) -> None:
    seen = told(history)
    until = (seen[-1].time if seen else 0) + data.draw(st.sampled_from([0, 2000, 60_000]))
    wakes = data.draw(st.lists(st.booleans(), min_size=len(seen), max_size=len(seen)))

    expected = [hit.numbers for hit in matches(pattern, seen, until)]

    assert play(pattern, seen, until, wakes) == expected, str(pattern)
