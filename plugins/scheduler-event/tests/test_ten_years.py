"""A schedule of each minute, for ten years in virtual time."""

import time
from datetime import UTC, datetime

import pytest

from aiflow_core.clock import to_ms
from aiflow_core.model.event import Event, EventType
from aiflow_core.testing.timing_model import MINUTE
from aiflow_scheduler_event.commands import AddSchedule, EnableWorkflow
from aiflow_scheduler_event.state import Changes
from aiflow_scheduler_event.timers import timer_event

from .play import Play, task

YEARS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
LEAP_DAY = (datetime(2024, 2, 28, 12, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC))

THOROUGH = 10  # from this effort on it is really ten years


@pytest.mark.model
def test_no_minute_is_left_out_and_none_comes_twice(request: pytest.FixtureRequest) -> None:
    thorough = request.config.getoption("--models-effort") >= THOROUGH
    begin, end = map(to_ms, YEARS if thorough else LEAP_DAY)
    play = Play(task("t"))
    play.now = begin
    # The schedule ticks and starts nothing, so that only ticks fill the memory of the test.
    play.do(EnableWorkflow("flow", "default", False))
    play.do(AddSchedule("flow", "default", "cron@* * * * *"))
    began = time.perf_counter()

    ticks = 0
    for minute in range(begin + MINUTE, end + 1, MINUTE):
        (timer,) = play.state.timers.values()
        assert timer.fire_at == minute
        event, changes = timer_event(timer, minute), Changes()
        play.engine.apply(
            Event(
                event.key,
                event.value,
                type=EventType.TIMER,
                id=event.id,
                offset=play.state.offset + 1,
                create_time=minute,
            ),
            changes,
        )
        ticks += len(changes.decisions)

    assert ticks == (end - begin) // MINUTE
    seconds = time.perf_counter() - began
    print(f"{ticks} ticks, {(end - begin) / 1000 / seconds:.0f} times as fast as real time")
