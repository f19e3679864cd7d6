"""Time expressions of schedules and periodic tasks: what they may be, and when they fire next.

Two forms, as the manual has them: `cron@minute hour day-of-month month day-of-week` (five fields,
by the clock of a time zone) and `interval@days hours minutes seconds`. Pure functions of the
expression and a moment.
"""

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aiflow_core.clock import to_datetime, to_ms
from aiflow_core.errors import DefinitionError, UsageError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_LONGEST = timedelta(days=3660)

# No clock has ever been put forward or back by more, but for a change of the date line.
_TURN_MS = 4 * 3600 * 1000

FOREVER = "forever"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}  # seconds
_LONGEST_KEPT = 1000 * 366 * _UNITS["d"]

_FORMS = (
    "Write 'cron@m h dom mon dow' (five fields) or 'interval@days hours minutes seconds', for "
    "example 'cron@0 * * * *' or 'interval@0 0 10 0'."
)


def check_expression(expression: str) -> None:
    """Raise `DefinitionError` unless the expression is a time expression."""
    kind, at, rest = expression.partition("@")
    if not at:
        misprint = re.fullmatch(r"(cron|interval)\s*(.+)", expression.strip())
        hint = f"Did you mean '{misprint[1]}@{misprint[2]}'?" if misprint else _FORMS
        raise DefinitionError(f"{expression!r} is not a time expression.", next_step=hint)
    if kind == "cron":
        from croniter import croniter

        if len(rest.split()) != 5 or not croniter.is_valid(_cron(rest)):
            raise DefinitionError(
                f"{rest!r} is not a cron expression of five fields.", next_step=_FORMS
            )
        if next_fire(expression, 0) is None:
            raise DefinitionError(f"{expression!r} never comes true.", next_step=_FORMS)
    elif kind == "interval":
        if _interval(rest) is None:
            raise DefinitionError(
                f"{rest!r} is not an interval of days, hours, minutes and seconds, above 0 and up "
                "to ten years.",
                next_step=_FORMS,
            )
    else:
        raise DefinitionError(f"{expression!r} is not a time expression.", next_step=_FORMS)


def next_fire(expression: str, after_ms: int, time_zone: str = "UTC") -> int | None:
    """The first moment after `after_ms` (both milliseconds since the epoch) at which the expression
    fires; None when there is none. An interval counts from `after_ms`.

    Where clocks are put forward, a time of day that is left out comes as much later. Where they are
    put back, a time of day that there is twice counts once, the first time; an expression with a
    `*` for the hour goes by the time that passes, and fires both times.
    """
    kind, _, rest = expression.partition("@")
    if kind == "interval":
        period = _interval(rest)
        return None if period is None else after_ms + round(period.total_seconds() * 1000)
    from zoneinfo import ZoneInfo

    from croniter import CroniterBadDateError, croniter

    try:
        if time_zone != "UTC":
            return _next_in(ZoneInfo(time_zone), rest, after_ms)
        return to_ms(croniter(_cron(rest), to_datetime(after_ms)).get_next(datetime))
    except CroniterBadDateError:
        return None


def _next_in(zone: "ZoneInfo", cron: str, after_ms: int) -> int:
    """The first moment at which the clock of a time zone shows what the expression says."""
    from croniter import croniter

    after = to_datetime(after_ms).astimezone(zone)
    wall = after.replace(tzinfo=None)
    around = (to_datetime(after_ms + side).astimezone(zone) for side in (-_TURN_MS, _TURN_MS))
    turns = any(moment.utcoffset() != after.utcoffset() for moment in around)
    # Where clocks are put back, what comes next may show an earlier time of day.
    turn = timedelta(milliseconds=_TURN_MS if turns else 0)
    times = croniter(_cron(cron), wall - turn)
    goes_by_passing_time = cron.split()[1].startswith("*")
    first: int | None = None
    while True:
        shown = times.get_next(datetime)
        for fold in (0, 1) if goes_by_passing_time else (0,):
            moment = to_ms(shown.replace(tzinfo=zone, fold=fold))
            if moment > after_ms:
                first = moment if first is None else min(first, moment)
        if first is not None and shown >= wall + turn:
            return first


def _cron(text: str) -> str:
    # croniter takes a range of one number for one that goes all the way round.
    return re.sub(r"(?<![\d-])(\d+)-\1(/\d+)?(?!\d)", r"\1", text)


def _interval(text: str) -> timedelta | None:
    parts = text.split()
    if len(parts) != 4 or not all(re.fullmatch(r"\d+(\.\d+)?", p) for p in parts):
        return None
    days, hours, minutes, seconds = map(float, parts)
    try:
        period = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return None
    return period if timedelta(milliseconds=1) <= period <= _LONGEST else None


def retention_ms(text: str) -> int | None:
    """How long something is kept, in milliseconds: a number with a unit behind it (`s`, `m`, `h`,
    `d`, `w`), as `30d`; None for `forever`. `UsageError` for what is neither."""
    if text.strip() == FOREVER:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    if found is None or not 0 < float(found[1]) * _UNITS[found[2]] <= _LONGEST_KEPT:
        raise UsageError(
            f"{text!r} is not a length of time",
            next_step="Write a number with s, m, h, d or w behind it, for example 30d, or forever.",
        )
    return round(float(found[1]) * _UNITS[found[2]] * 1000)


def check_retention(text: str) -> None:
    """Raise `UsageError` unless `retention_ms` understands it."""
    retention_ms(text)
