"""Time expressions against a calendar that is read minute by minute."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_core.clock import to_ms
from aiflow_core.model.timing import next_fire
from aiflow_core.testing.timing_model import MINUTE, first_after

# What exists there only: half an hour of summer time, quarters of an hour, a day that was left out.
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("America/St_Johns", "Africa/Casablanca", "Pacific/Apia"),
)


def at(*moment: int) -> int:
    return to_ms(datetime(*moment, tzinfo=UTC))  # type: ignore[misc]


# Just before something happens in a calendar: the hour in Berlin, New York, Lord Howe and St John's
# that there is not, and the one that there is twice; a leap day, one that is none, ends of months.
TURNS = (
    *(at(2024, 3, 31, 0, 58), at(2024, 10, 26, 23, 58), at(2024, 10, 27, 0, 58)),
    *(at(2024, 3, 10, 6, 58), at(2024, 11, 3, 5, 58), at(2024, 10, 5, 15, 28)),
    *(at(2024, 4, 6, 14, 58), at(2024, 2, 28, 23, 58), at(2024, 2, 29, 23, 58)),
    *(at(2023, 2, 28, 23, 58), at(2023, 12, 31, 23, 58), at(2097, 3, 1), at(2024, 4, 30, 23, 59)),
)
MOMENTS = st.builds(int.__add__, st.sampled_from(TURNS), st.integers(-5 * MINUTE, 5 * MINUTE))


def field(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    spans = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.integers(2, high - low)
    part = st.one_of(numbers.map(str), spans, st.builds("{}/{}".format, spans, steps))
    return st.one_of(
        st.just("*"),
        st.builds("*/{}".format, steps),
        st.lists(part, min_size=1, max_size=3).map(",".join),
    )


CRONS = st.builds(
    "cron@{} {} {} {} {}".format,
    *(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
)


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@given(expression=CRONS, after=MOMENTS)
@settings(max_examples=300, deadline=None)
def test_an_expression_fires_next_when_the_calendar_says(expression: str, after: int) -> None:
    # Some come true in no year that the model looks at.
    expected = first_after(expression, after)

    if expected is not None:
        assert next_fire(expression, after) == expected


@pytest.mark.parametrize("expression", ["* * * * *", "30 2 * * *", "*/15 1-3 * * 0", "0 0 29 2 *"])
def test_the_zone_of_the_machine_does_not_matter(zone: str, expression: str) -> None:
    assert os.environ["TZ"] == zone
    for turn in TURNS:
        for after in (turn - 1, turn, turn + MINUTE, turn + 90 * MINUTE):
            expected = first_after(f"cron@{expression}", after)
            assert next_fire(f"cron@{expression}", after) == expected


@pytest.mark.parametrize("hour", ["5-5", "5-5/3", "5-5,5"])
def test_a_range_of_one_hour_is_one_hour(hour: str) -> None:
    assert next_fire(f"cron@0 {hour} * * *", at(2024, 5, 1, 5)) == at(2024, 5, 2, 5)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # The hour from 2 to 3 is left out on 31 March 2024.
        ("30 2 * * *", "2024-03-31 01:00+01:00", "2024-03-31 03:30+02:00"),
        ("30 2 * * *", "2024-03-31 03:30+02:00", "2024-04-01 02:30+02:00"),
        ("*/20 * * * *", "2024-03-31 01:40+01:00", "2024-03-31 03:00+02:00"),
        ("0 3 * * *", "2024-03-31 01:59+01:00", "2024-03-31 03:00+02:00"),
        # It is there twice on 27 October 2024.
        ("30 2 * * *", "2024-10-27 01:00+02:00", "2024-10-27 02:30+02:00"),
        ("30 2 * * *", "2024-10-27 02:30+02:00", "2024-10-28 02:30+01:00"),
        ("30 2 * * *", "2024-10-27 02:10+01:00", "2024-10-28 02:30+01:00"),
        ("*/20 * * * *", "2024-10-27 02:40+02:00", "2024-10-27 02:00+01:00"),
        ("*/20 * * * *", "2024-10-27 02:40+01:00", "2024-10-27 03:00+01:00"),
        ("15 * * * *", "2024-10-27 02:15+02:00", "2024-10-27 02:15+01:00"),
        ("0 12 29 2 *", "2024-02-29 13:00+01:00", "2028-02-29 12:00+01:00"),
    ],
)
def test_a_cron_expression_goes_through_the_change_of_the_hour(
    cron: str, after: str, expected: str
) -> None:
    found = next_fire(f"cron@{cron}", to_ms(datetime.fromisoformat(after)), "Europe/Berlin")

    assert found == to_ms(datetime.fromisoformat(expected))


@settings(max_examples=60, deadline=None)
@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_minute_of_any_time_zone_is_a_minute(moment: int, zone: str) -> None:
    expected = (moment // MINUTE + 1) * MINUTE
    assert next_fire("cron@* * * * *", moment, zone) == expected
