"""Time never goes back for the scheduler, whatever the clocks of its machine and the log's do."""

from aiflow_core.model.event import Event
from aiflow_scheduler_event.commands import AddSchedule
from aiflow_scheduler_event.state import Timer
from aiflow_scheduler_event.timers import timer_event

from .play import Play, task

HOUR = 3_600_000


def ring(play: Play, *, ahead_ms: int) -> Event:
    """Let the only timer be due by a clock of the scheduler that is so far ahead of the log's."""
    (timer,) = play.state.timers.values()
    event = timer_event(timer, play.now + ahead_ms)
    play.append(event.key, event.value, type=event.type, id=event.id)
    return event


def only_timer(play: Play) -> Timer:
    (timer,) = play.state.timers.values()
    return timer


def test_a_tick_comes_once_although_the_clock_of_the_log_is_a_little_behind() -> None:
    play = Play(task("t"))
    play.do(AddSchedule("flow", "default", "cron@* * * * *"))
    first = only_timer(play)
    play.now = first.fire_at - 5

    ring(play, ahead_ms=5)

    assert len(play.executions) == 1
    assert only_timer(play).fire_at == first.fire_at + 60_000


def test_an_interval_is_counted_by_the_clock_that_is_ahead() -> None:
    play = Play(task("t"))
    play.do(AddSchedule("flow", "default", "interval@0 0 0 1"))

    ring(play, ahead_ms=HOUR)

    assert only_timer(play).fire_at == play.now + HOUR + 1000


def test_the_clock_of_the_log_may_be_set_back_between_two_ticks() -> None:
    play = Play(task("t"))
    play.do(AddSchedule("flow", "default", "cron@* * * * *"))
    play.pass_time(60)
    tick = only_timer(play)

    play.now -= HOUR
    play.do(AddSchedule("flow", "default", "cron@0 0 1 1 *"))

    assert tick in play.state.timers.values()
    assert len(play.executions) == 1


def test_each_retry_has_an_alarm_of_its_own_although_the_clock_of_the_log_stands_still() -> None:
    play = Play(task("t", retries=3))
    play.start()

    alarms = []
    for _ in range(3):
        play.fail("t")
        alarms.append(ring(play, ahead_ms=HOUR).id)

    assert len({*alarms}) == 3
    assert play.attempt("t").try_number == 4
