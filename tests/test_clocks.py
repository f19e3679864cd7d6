"""Two real servers whose clock is set while they run, and what tells whether it did any harm."""

from pathlib import Path
from typing import Any

import pytest

from .chaos.clocks import CASES, LIBRARIES, SCHEDULES, Tick, examined, play


@pytest.mark.skipif(not LIBRARIES, reason="needs faketime (not installed)")
@pytest.mark.parametrize("case", ["an hour forward", "summer time begins"])
def test_no_tick_comes_twice_and_none_is_lost(case: str, tmp_path: Path) -> None:
    found = play(tmp_path, CASES[case])

    assert found.are_good, (str(found), found)


class Written:
    """What servers would have written: two ticks of the first schedule, and what a test changes."""

    def __init__(self) -> None:
        self.found = [Tick(5, 1, 10_000, 10_002), Tick(7, 1, 11_002, 11_003)]
        self.place = 7
        self.executions = 2
        self.armed = len(SCHEDULES)
        self.unsound: list[Any] = []
        self.times = [1, 1, 2]

    def ticks(self) -> list[Tick]:
        return self.found

    def metadata(self, query: str) -> list[Any]:
        if "last_seq" in query:
            return [(self.place,)]
        if "timer" in query:
            return [(n, 0) for n in range(self.armed)]
        return self.unsound if "end_date" in query else [(n,) for n in range(self.executions)]

    def log(self, query: str) -> list[Any]:
        return [(time,) for time in self.times]


class TestExamination:
    def test_what_is_as_promised_is_good(self) -> None:
        assert examined(Written()).are_good

    def test_nothing_at_all_is_not_good(self) -> None:
        written = Written()
        written.found, written.executions = [], 0

        assert not examined(written).are_good

    def test_a_tick_that_came_twice_is_found(self) -> None:
        written = Written()
        written.found.append(written.found[-1]._replace(offset=8))

        assert len(examined(written).twice) == 1

    @pytest.mark.parametrize("due", [11_001, 12_002])
    def test_a_tick_at_another_moment_is_found(self, due: int) -> None:
        written = Written()
        written.found[1] = written.found[1]._replace(due=due)

        assert len(examined(written).lost) == 1

    def test_a_tick_that_started_nothing_is_found(self) -> None:
        written = Written()
        written.executions = 1

        assert len(examined(written).lost) == 1

    def test_one_that_was_not_taken_in_yet_is_not_missed(self) -> None:
        written = Written()
        written.executions, written.place = 1, 6

        assert examined(written).are_good

    def test_a_schedule_that_does_not_go_on_is_found(self) -> None:
        written = Written()
        written.armed = 1

        assert len(examined(written).lost) == 1

    def test_what_ends_before_it_began_is_found(self) -> None:
        written = Written()
        written.unsound = [(1, 2, 1)]

        assert examined(written).negative

    def test_a_log_whose_time_goes_back_is_found(self) -> None:
        written = Written()
        written.times = [2, 1]

        assert examined(written).negative == [(2, 1)]
