"""What stands in events, and tests of it."""

from typing import Any

import pytest

from aiflow_core.errors import DefinitionError
from aiflow_core.model.algebra import (
    MOST_PARTS,
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
from aiflow_core.model.condition import AnyCondition, MeetAllCondition, as_data
from aiflow_core.model.event import Event
from aiflow_core.model.payload import (
    MISSING,
    field,
    ge,
    gt,
    identity,
    le,
    lt,
    ne,
    one_of,
    present,
)
from aiflow_core.model.serialization import decode, encode

FILE = Event(
    "file",
    '{"day": "monday", "rows": 120, "ok": true, "none": null, "parts": [{"rows": 20}, 7], '
    '"x": 1.0}',
    namespace="default",
    sender="upload",
    offset=3,
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("key", "file"),
        ("sender", "upload"),
        ("namespace", "default"),
        ("offset", 3),
        ("value.day", "monday"),
        ("value.parts.0.rows", 20),
        ("value.parts.1", 7),
        ("value.none", None),
        ("value.parts.2", MISSING),
        ("value.parts.day", MISSING),
        ("value.parts.-1", MISSING),
        ("value.day.0", MISSING),
        ("value.week", MISSING),
        ("context", MISSING),
        ("key.day", MISSING),
    ],
)
def test_a_path_leads_to_a_field(path: str, found: Any) -> None:
    assert field(FILE, path) == found


@pytest.mark.parametrize(
    "text", ["plain", "", "{", "NaN", '"\\ud800"', "[" * 100_000, "9" * 10_000, "1e999"]
)
def test_a_value_that_is_no_json_is_its_text_and_has_no_fields(text: str) -> None:
    assert field(Event("a", text), "value") == text
    assert field(Event("a", text), "value.x") is MISSING
    assert not event("a").where({"value.x": ne(1)}).matches(Event("a", text))


def test_an_event_without_a_value_has_none() -> None:
    assert field(Event("a"), "value") is MISSING
    assert field(Event("a", "null"), "value") is None


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ({"value.rows": 120}, True),
        ({"value.rows": 120.0}, True),
        ({"value.rows": "120"}, False),
        ({"value.ok": True}, True),
        ({"value.ok": 1}, False),
        ({"value.x": True}, False),
        ({"value.none": None}, True),
        ({"value.week": None}, False),
        ({"value.parts": [{"rows": 20.0}, 7]}, True),
        ({"value.rows": ne(1)}, True),
        ({"value.week": ne(1)}, False),
        ({"value.rows": gt(119)}, True),
        ({"value.rows": gt(120)}, False),
        ({"value.rows": ge(120)}, True),
        ({"value.rows": lt(120.5)}, True),
        ({"value.rows": le(119)}, False),
        ({"value.rows": gt("1")}, False),
        ({"value.ok": gt(0)}, False),
        ({"value.day": gt("friday")}, True),
        ({"value.day": one_of("monday", "friday")}, True),
        ({"value.day": one_of("friday")}, False),
        ({"value.none": present()}, True),
        ({"value.week": present()}, False),
        ({"value.week": present(False)}, True),
        ({"value.rows": 120, "value.day": "friday"}, False),
        ({"sender": "upload", "key": "file"}, True),
    ],
)
def test_tests_hold_or_do_not(test: dict[str, Any], holds: bool) -> None:
    assert event("file").where(test).matches(FILE) is holds


def test_keywords_are_fields_of_the_value_and_tests_add_up() -> None:
    assert event("a").where(day=1).where(rows=2) == event("a").where(
        {"value.day": 1, "value.rows": 2}
    )


@pytest.mark.parametrize(
    "where",
    [
        {"day": 1},
        {"value..day": 1},
        {"key.day": 1},
        {"value.day": object()},
        {"value.day": gt(None)},
        {"value.day": gt(True)},
        {"value.day": {1: 2}},
    ],
)
def test_a_test_that_cannot_be_meant_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        event("a").where(where)


def test_equal_values_have_one_identity() -> None:
    assert identity({"a": 1.0, "b": [2]}) == identity({"b": [2.0], "a": 1})
    assert identity(1) != identity(True) != identity("true")
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert identity(deep) is None


@pytest.mark.parametrize(
    "pattern",
    [
        event("a").where({"value.rows": gt(1), "key": "a"}, day="x"),
        all_of(event("a"), event("b"), within=60, by=["value.day", "key"], consume="first"),
        any_of(event("a"), count(event("b"), 2, within=1, distinct="value.n")),
        sequence(event("a"), any_of(event("b"), event("c")), consume="latest"),
        absent(event("a"), after=event("b"), within=60, by="key"),
        each(debounce(throttle(batch(event("a"), max=2, within=3), 4), 5)),
    ],
    ids=str,
)
def test_patterns_are_data_and_come_back_from_json_as_they_were(pattern: Pattern) -> None:
    assert decode(encode(pattern), AnyCondition) == pattern  # type: ignore[arg-type]
    assert as_data(pattern, place="task/0") is pattern


def test_a_pattern_names_the_keys_that_it_waits_for_once() -> None:
    pattern = all_of(
        event("a"), sequence(event("b"), event("a")), absent(event("c"), after=event("d"), within=1)
    )
    assert pattern.expect_event_keys == ["a", "b", "c", "d"]


def test_a_pattern_within_an_old_condition_is_refused_where_it_is_written() -> None:
    condition = MeetAllCondition("both", (event("a"), event("b")))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"Use all_of\(\.\.\.\)"):
        as_data(condition)


def test_a_pattern_has_an_end() -> None:
    with pytest.raises(DefinitionError, match="more than 100 parts"):
        any_of(*[event("a")] * MOST_PARTS)
