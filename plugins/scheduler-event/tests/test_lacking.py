"""What a pattern still lacks, in words and in moments."""

import json
from typing import Any

import pytest

from aiflow_core.clock import to_datetime
from aiflow_core.model.algebra import (
    Pattern,
    absent,
    all_of,
    any_of,
    batch,
    count,
    debounce,
    each,
    event,
    sequence,
    throttle,
)
from aiflow_core.model.condition import Lack
from aiflow_core.model.event import Event
from aiflow_core.model.payload import gt, one_of, present
from aiflow_scheduler_event.automaton import look
from aiflow_scheduler_event.lacking import lacks, remembered

A, B, C = event("a"), event("b"), event("c")
DAY = "value.day"

A_THEN_B_THEN_C = [
    "an event with key 'a'",
    "then an event with key 'b'",
    "then an event with key 'c'",
]


def after(
    pattern: Pattern, *heard: tuple[float, str] | tuple[float, str, Any], at: float | None = None
) -> tuple[Lack, ...]:
    """What is lacked after these events (second, key, value) at a second, else at the last."""
    memory, kept, now = None, {}, 0
    for place, (second, key, *value) in enumerate(heard, 1):
        now = round(second * 1000)
        came = Event(key, json.dumps(value[0]) if value else None, offset=place)
        memory, kept, *_ = look(pattern, memory, kept, now, came)
    return lacks(pattern, remembered(memory), now if at is None else round(at * 1000))


def texts(*words: Any, **more: Any) -> list[str]:
    return [lack.text for lack in after(*words, **more)]


@pytest.mark.parametrize(
    ("pattern", "heard", "wanted"),
    [
        (A, [(0, "a")], ["an event with key 'a'"]),
        (
            A.where(day="tue").where({"value.rows": gt(5), "value.x": present(False)}),
            [],
            ["an event with key 'a' and value.day = \"tue\" and value.rows > 5 and no value.x"],
        ),
        (
            A.where({"value.n": one_of(1, 2), "sender": present()}),
            [],
            ["an event with key 'a' and value.n one of [1,2] and a sender"],
        ),
        (all_of(A, B, C), [(0, "b")], ["an event with key 'a'", "an event with key 'c'"]),
        (all_of(A, B), [(0, "b"), (1, "a")], ["an event with key 'a'", "an event with key 'b'"]),
        (any_of(A, all_of(B, C)), [(0, "b")], ["an event with key 'a' or an event with key 'c'"]),
        (sequence(A, B, C), [], A_THEN_B_THEN_C),
        (sequence(A, B, C), [(0, "a"), (1, "b")], ["an event with key 'c'"]),
        (sequence(A, B, C), [(0, "b")], A_THEN_B_THEN_C),
        (count(A, 3), [(0, "a")], ["2 of 3 times an event with key 'a'"]),
        (
            count(A, 2, distinct=DAY),
            [(0, "a", {"day": 1}), (0, "a", {"day": 1})],
            ["1 of 2 times an event with key 'a' with another value.day each"],
        ),
        (all_of(count(A, 3), B), [(0, "a"), (0, "b")], ["2 of 3 times an event with key 'a'"]),
        (
            absent(A, after=B, within=600),
            [],
            ["an event with key 'b'", "then 600 s without an event with key 'a'"],
        ),
        (absent(A, after=B, within=600), [(0, "b")], ["600 s without an event with key 'a'"]),
        (
            absent(A, after=B, within=600),
            [(0, "b"), (1, "a")],
            ["an event with key 'b'", "then 600 s without an event with key 'a'"],
        ),
        (
            debounce(A, 1.5),
            [],
            ["an event with key 'a'", "then 1.5 s without an event with key 'a'"],
        ),
        (debounce(A, 1.5), [(0, "a")], ["1.5 s without an event with key 'a'"]),
        (throttle(A, 9), [(0, "a")], ["an event with key 'a'"]),
        (throttle(A, 9), [(0, "a"), (1, "a")], ["the end of the 9 s since it was met last"]),
        (batch(A, max=3), [(0, "a")], ["2 of 3 times an event with key 'a'"]),
        (
            batch(A, max=3, within=9),
            [(0, "a")],
            ["2 of 3 times an event with key 'a' or the end of 9 s"],
        ),
        (batch(A, within=9), [], ["an event with key 'a'", "then the end of 9 s"]),
        (batch(A, within=9), [(0, "a")], ["the end of 9 s"]),
        (each(all_of(A, B)), [(0, "a")], ["an event with key 'b'"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_has_not_come_is_lacked(pattern: Pattern, heard: list[Any], wanted: list[str]) -> None:
    assert texts(pattern, *heard) == wanted


def test_it_is_told_since_when_the_others_wait_and_for_how_long() -> None:
    (lack,) = after(all_of(A, B, within=60), (5, "a"), (7, "a"))

    assert lack == Lack(
        "an event with key 'b'", ("b",), since=to_datetime(5_000), before=to_datetime(65_000)
    )


def test_what_is_too_old_waits_no_more() -> None:
    lacking = after(sequence(A, B, within=60), (5, "a"), at=66)

    assert lacking == after(sequence(A, B, within=60))


def test_an_end_that_comes_by_itself_is_told() -> None:
    (silence,) = after(absent(A, after=B, within=600), (5, "b"))

    assert (silence.since, silence.until) == (to_datetime(5_000), to_datetime(605_001))
    assert silence.event_keys == ()
    (full,) = after(batch(A, max=3, within=9), (5, "a"))
    assert (full.event_keys, full.until) == (("a",), to_datetime(14_001))


def test_the_parts_of_parts_tell_their_own_times() -> None:
    (lack,) = after(all_of(count(A, 2), B), (1, "a"), (2, "b"))

    assert (lack.text, lack.since) == ("1 of 2 times an event with key 'a'", to_datetime(1_000))


class TestValues:
    """Each value of `by` has a pattern of its own."""

    def test_the_one_that_has_waited_longest_is_told(self) -> None:
        pattern = all_of(A, B, by=DAY)
        heard = [(0, "a", {"day": "mon"}), (1, "b", {"day": "tue"}), (2, "a", {"day": 3})]

        assert texts(pattern) == [
            "an event with key 'a' of one value.day",
            "an event with key 'b' of one value.day",
        ]
        assert texts(pattern, *heard) == [
            "an event with key 'b' of value.day \"mon\" (and so for 2 more)"
        ]

    def test_of_an_event_its_own_is_told(self) -> None:
        pattern = all_of(A, B, by=(DAY, "namespace"))
        memory, kept, *_ = look(pattern, None, {}, 0, Event("a", '{"day": 1}'))
        second = Event("b", '{"day": 2}', namespace="n")

        found = look(pattern, memory, kept, 1, second)

        (lack,) = lacks(pattern, found.root, 1, second)
        assert lack.text == "an event with key 'a' of value.day 2 and namespace \"n\""

    def test_long_values_are_not_shown(self) -> None:
        lacking = texts(all_of(A, B, by=DAY), (0, "a", {"day": "x" * 500}))

        assert lacking == ["an event with key 'b' of one value.day"]

    def test_what_is_too_old_waits_no_more(self) -> None:
        lacking = texts(all_of(A, B, by=DAY, within=60), (0, "a", {"day": 1}), at=61)

        assert lacking[0] == "an event with key 'a' of one value.day"
