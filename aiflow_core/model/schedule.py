"""What a schedule may say beside its expression, and when it fires."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from aiflow_core.clock import to_ms
from aiflow_core.errors import DefinitionError, did_you_mean
from aiflow_core.model.serialization import Value
from aiflow_core.model.timing import check_expression, next_fire

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


class CatchUp(StrEnum):
    """How many of the ticks that were missed are made up for."""

    NONE = "none"
    ONCE = "once"
    ALL = "all"


class ScheduleOptions(Value, frozen=True):
    """What is left out means: every tick, for ever, in UTC.

    Attributes:
        time_zone: whose clock a cron expression reads, as `Europe/Berlin`.
        start: no tick before; an interval is counted from it.
        end: no tick after.
        catch_up: what becomes of ticks that are missed, because no server was there or because
            `max_active_runs` did not let them.
        max_active_runs: so many executions of the workflow that were started by schedules may run
            when one is started; None is no limit.
    """

    time_zone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    catch_up: CatchUp = CatchUp.ONCE
    max_active_runs: int | None = None


def schedule_options(
    *,
    time_zone: str = "UTC",
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    catch_up: str = CatchUp.ONCE,
    max_active_runs: int | None = None,
) -> ScheduleOptions:
    """The options as an author writes them: a moment is a datetime or text as in ISO 8601, in the
    time zone of the schedule unless it says another. `DefinitionError` for what makes no sense."""
    zone = _zone(time_zone)
    if catch_up not in list(CatchUp):
        raise DefinitionError(
            f"{catch_up!r} is no way to catch up.", next_step=f"It is {', '.join(CatchUp)}."
        )
    options = ScheduleOptions(
        time_zone=time_zone,
        start=_moment("start", start, zone),
        end=_moment("end", end, zone),
        catch_up=CatchUp(catch_up),
        max_active_runs=max_active_runs,
    )
    check_options(options)
    return options


def check_schedule(expression: str, options: ScheduleOptions) -> None:
    """Raise `DefinitionError` unless the two make sense."""
    check_expression(expression)
    check_options(options)


def check_options(options: ScheduleOptions) -> None:
    """Raise `DefinitionError` unless the options make sense by themselves."""
    _zone(options.time_zone)
    for name in ("start", "end"):
        moment = getattr(options, name)
        if moment is not None and moment.tzinfo is None:
            raise DefinitionError(f"The {name} of a schedule has no time zone: {moment}.")
    if options.start and options.end and options.end <= options.start:
        raise DefinitionError("A schedule ends after its start.")
    if options.max_active_runs is not None and options.max_active_runs < 1:
        raise DefinitionError(
            "max_active_runs is at least 1.", next_step="Leave it out where there is no limit."
        )


def next_tick(expression: str, options: ScheduleOptions, after_ms: int) -> int | None:
    """The first tick after `after_ms` (both milliseconds since the epoch); None when there is none,
    or none any more."""
    if options.start is not None:
        # A moment that the expression names may be the start itself.
        start = to_ms(options.start) - (not expression.startswith("interval"))
        after_ms = max(after_ms, start)
    fire_at = next_fire(expression, after_ms, options.time_zone)
    if fire_at is None or (options.end is not None and fire_at > to_ms(options.end)):
        return None
    return fire_at


def _zone(name: str) -> "ZoneInfo":
    # Late: the processes of tasks start faster without.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = did_you_mean(name, sorted(available_timezones()))
        raise DefinitionError(
            f"{name!r} is not a time zone.",
            next_step=near if near.startswith("Did") else "Write it as in 'Europe/Berlin'.",
        ) from error


def _moment(name: str, value: datetime | str | None, zone: "ZoneInfo") -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise DefinitionError(
                f"The {name} of a schedule is no moment: {value!r}.",
                next_step="Write it as in '2026-01-31 06:00' or '2026-01-31T06:00:00+01:00'.",
            ) from error
    aware = value.replace(tzinfo=zone) if value.tzinfo is None else value
    return aware.astimezone(UTC)
