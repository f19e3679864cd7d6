"""Schedules: executions by the clock, in virtual time."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from aiflow_core.clock import to_datetime, to_ms
from aiflow_core.errors import DefinitionError
from aiflow_core.model.schedule import CatchUp, schedule_options
from aiflow_core.model.status import ExecutionType, WorkflowStatus
from aiflow_scheduler_event import schedules
from aiflow_scheduler_event.commands import AddSchedule, EnableWorkflow, PauseSchedule

from .play import MONDAY, START, Play, Refused, on, task
from .rows import row

HOUR, DAY = 3600, 86_400
TEN_MINUTES = "interval@0 0 10 0"
SECTION = "Schedules"


def scheduled(expression: str = TEN_MINUTES, *, ends: bool = True, **options: Any) -> Play:
    """A workflow with a schedule; its executions run until they are told to end, or end by
    themselves when their task succeeds (`ends`: at once)."""
    play = Play(task("t") if not ends else task("t", on(START, "never")), name="flow")
    if ends:
        play = Ending()
    play.do(AddSchedule("flow", "default", expression, schedule_options(**options)))
    return play


class Ending(Play):
    """Executions that end as soon as they have begun: their only task succeeds at once."""

    def __init__(self) -> None:
        super().__init__(task("t"))

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        self.end_all()

    def end_all(self) -> None:
        for run in list(self.state.runs):
            self.succeed("t", execution_id=run)


def began(play: Play) -> list[str]:
    """When executions began, as days and times of day in UTC."""
    return [f"{e.begin_date:%d %H:%M}" for e in play.executions.values()]


@row(SECTION, "an expression `interval@days hours minutes seconds`")
def test_an_interval_is_counted_from_the_creation_of_the_schedule() -> None:
    play = scheduled("interval@0 0 25 0")

    play.pass_time(HOUR)

    assert began(play) == ["20 00:25", "20 00:50"]
    assert {e.run_type for e in play.executions.values()} == {ExecutionType.PERIODIC}


@row(SECTION, "an expression `cron@m h dom mon dow`")
def test_a_cron_expression_reads_the_clock_in_utc() -> None:
    play = scheduled("cron@15 6 * * 3")

    play.pass_time(7 * DAY)

    assert began(play) == ["22 06:15"]


@row(SECTION, "`time_zone`")
class TestTimeZone:
    def test_is_whose_clock_a_cron_expression_reads(self) -> None:
        play = scheduled("cron@0 6 * * *", time_zone="Asia/Kathmandu")

        play.pass_time(DAY)

        assert began(play) == ["20 00:15"]

    def test_goes_through_the_change_of_the_hour(self) -> None:
        play = scheduled("cron@0 6 * * *", time_zone="Europe/Berlin")
        play.pass_time(150 * DAY)

        by_utc = {f"{e.begin_date:%H:%M}" for e in play.executions.values()}

        assert by_utc == {"05:00", "04:00"}
        assert len(play.executions) == 150

    def test_must_exist(self) -> None:
        with pytest.raises(DefinitionError, match="Did you mean 'Europe/Berlin'"):
            schedule_options(time_zone="Europe/Berln")


@row(SECTION, "`start`")
class TestStart:
    def test_there_is_no_tick_before(self) -> None:
        play = scheduled("cron@0 * * * *", start="2023-11-20 03:00")

        play.pass_time(5 * HOUR)

        assert began(play) == ["20 03:00", "20 04:00", "20 05:00"]

    def test_an_interval_is_counted_from_it(self) -> None:
        play = scheduled("interval@0 2 0 0", start="2023-11-20 03:30")

        play.pass_time(8 * HOUR)

        assert began(play) == ["20 05:30", "20 07:30"]

    def test_is_in_the_time_zone_unless_it_says_another(self) -> None:
        berlin = schedule_options(time_zone="Europe/Berlin", start="2024-06-01 03:00")
        utc = schedule_options(time_zone="Europe/Berlin", start="2024-06-01T03:00+00:00")

        assert berlin.start == datetime(2024, 6, 1, 1, tzinfo=UTC)
        assert utc.start == datetime(2024, 6, 1, 3, tzinfo=UTC)


@row(SECTION, "`end`")
class TestEnd:
    def test_there_is_no_tick_after(self) -> None:
        play = scheduled("cron@0 * * * *", end="2023-11-20 02:00")

        play.pass_time(DAY)

        assert began(play) == ["20 01:00", "20 02:00"]
        assert play.state.timers == {}

    def test_a_schedule_without_a_tick_is_refused(self) -> None:
        with pytest.raises(Refused) as refused:
            scheduled("cron@0 5 * * *", end="2023-11-20 04:00")

        assert isinstance(refused.value.error, DefinitionError)


@row(SECTION, '`catch_up="once"` (without another)')
def test_ticks_that_were_missed_are_made_up_for_once() -> None:
    play = scheduled(TEN_MINUTES)

    play.sleep_through(DAY)
    assert len(play.executions) == 1
    play.pass_time(600)

    assert len(play.executions) == 2


@row(SECTION, '`catch_up="none"`')
class TestCatchingUpWithNothing:
    def test_ticks_that_were_missed_are_not_made_up_for(self) -> None:
        play = scheduled("cron@0 * * * *", catch_up="none")

        play.sleep_through(DAY + 1800)
        assert play.executions == {}
        play.pass_time(1800)

        assert began(play) == ["21 01:00"]
        assert "NOT STARTED" in {decision.what for decision in play.decisions}

    def test_a_tick_that_is_seconds_late_is_not_missed(self) -> None:
        play = scheduled("cron@0 * * * *", catch_up="none")

        play.sleep_through(HOUR + 30)

        assert len(play.executions) == 1


@row(SECTION, '`catch_up="all"`')
class TestCatchingUpWithEverything:
    def test_each_tick_that_was_missed_starts_an_execution(self) -> None:
        play = scheduled("cron@0 * * * *", catch_up="all")

        play.sleep_through(5 * HOUR + 1800)
        assert len(play.executions) == 5
        play.pass_time(HOUR)

        assert len(play.executions) == 6

    def test_an_interval_keeps_to_its_ticks(self) -> None:
        play = scheduled("interval@0 0 10 0", catch_up="all")

        play.sleep_through(25 * 60)
        play.pass_time(5 * 60)

        assert len(play.executions) == 3

    def test_not_for_ever(self) -> None:
        play = scheduled("interval@0 0 0 1", catch_up="all")

        play.sleep_through(DAY)

        assert len(play.executions) == schedules.MOST_MADE_UP

    def test_a_tick_after_the_end_is_none(self) -> None:
        play = scheduled("cron@0 * * * *", catch_up="all", end="2023-11-20 03:00")

        play.sleep_through(DAY)

        assert len(play.executions) == 3


@row(SECTION, "`max_active_runs`")
class TestMaximumOfActiveRuns:
    def limited(self, catch_up: str) -> Play:
        return scheduled(TEN_MINUTES, ends=False, max_active_runs=2, catch_up=catch_up)

    @pytest.mark.parametrize("catch_up", CatchUp)
    def test_no_more_executions_run_at_once(self, catch_up: str) -> None:
        play = self.limited(catch_up)

        play.pass_time(HOUR)

        assert len(play.executions) == 2

    @pytest.mark.parametrize(("catch_up", "follow"), [("none", 0), ("once", 1), ("all", 4)])
    def test_what_waits_starts_when_there_is_room(self, catch_up: str, follow: int) -> None:
        play = self.limited(catch_up)
        play.pass_time(HOUR)

        for execution_id in range(1, 10):
            if execution_id in play.executions:
                play.succeed("t", execution_id=execution_id)

        assert len(play.executions) == 2 + follow
        assert play.state.schedules[1].waiting == 0

    def test_executions_that_were_started_by_hand_do_not_count(self) -> None:
        play = self.limited("once")
        for _ in range(3):
            play.start()

        play.pass_time(600)

        assert len(play.executions) == 4

    def test_a_failure_makes_room_as_well(self) -> None:
        play = self.limited("all")
        play.pass_time(1800)

        play.fail("t", execution_id=1)

        assert play.executions[1].status is WorkflowStatus.FAILED
        assert len(play.executions) == 3

    def test_pausing_forgets_what_waits(self) -> None:
        play = self.limited("all")
        play.pass_time(HOUR)

        play.do(PauseSchedule(1, True))
        play.succeed("t", execution_id=1)

        assert len(play.executions) == 2

    def test_what_waits_does_not_start_while_the_workflow_is_disabled(self) -> None:
        play = self.limited("once")
        play.pass_time(HOUR)
        play.do(EnableWorkflow("flow", "default", False))

        play.succeed("t", execution_id=1)

        assert len(play.executions) == 2


def test_ticks_of_a_paused_schedule_are_no_missed_ticks() -> None:
    play = scheduled("cron@0 * * * *", catch_up="all")
    play.do(PauseSchedule(1, True))
    play.pass_time(5 * HOUR)

    play.do(PauseSchedule(1, False))
    play.pass_time(HOUR)

    assert began(play) == ["20 06:00"]


def test_the_day_is_as_long_as_the_clock_says() -> None:
    play = scheduled("cron@0 0 * * *", time_zone="Europe/Berlin", start="2024-03-30")

    play.pass_time((to_ms(datetime(2024, 4, 2, tzinfo=UTC)) - MONDAY) / 1000)

    moments = [e.begin_date for e in play.executions.values()]
    assert [b - a for a, b in pairwise(moments)] == [
        timedelta(hours=24),
        timedelta(hours=23),
        timedelta(hours=24),
    ]
    assert moments[0] == to_datetime(to_ms(datetime(2024, 3, 29, 23, tzinfo=UTC)))
