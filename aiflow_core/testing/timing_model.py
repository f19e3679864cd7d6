"""Time expressions as one would read them aloud: minute by minute, through the calendar."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

MINUTE = 60_000
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=10_000)
def first_after(expression: str, after_ms: int, days: int = 366 * 9) -> int | None:
    """The first moment after `after_ms` at which the expression fires; None when that is not within
    so many days. Both are milliseconds since the epoch."""
    kind, _, rest = expression.partition("@")
    if kind == "interval":
        d, h, m, s = map(float, rest.split())
        return after_ms + round((((d * 24 + h) * 60 + m) * 60 + s) * 1000)
    fields = rest.split()
    minutes, hours, monthdays, months, weekdays = map(_allowed, fields, _RANGES)
    moment = _EPOCH + timedelta(milliseconds=after_ms // MINUTE * MINUTE)
    either_will_do = not _restricts_nothing(fields[2], monthdays, 31, beside=fields[4]) and (
        not _restricts_nothing(fields[4], {day % 7 for day in weekdays}, 7, beside=fields[2])
    )

    def is_day(day: date) -> bool:
        of_month = day.day in monthdays
        of_week = day.isoweekday() in weekdays or day.isoweekday() % 7 in weekdays
        fits = of_month or of_week if either_will_do else of_month and of_week
        return fits and day.month in months

    for minute in _minutes_after(moment, days, is_day):
        if minute.minute in minutes and minute.hour in hours:
            return (minute - _EPOCH) // timedelta(milliseconds=1)
    return None


def _restricts_nothing(field: str, allowed: set[int], count: int, *, beside: str) -> bool:
    return field == "*" or ("*" in beside and len(allowed) == count)


def _minutes_after(
    moment: datetime, days: int, is_day: Callable[[date], bool]
) -> Iterator[datetime]:
    """The minutes that follow, of the days that are wanted."""
    end = moment + timedelta(days=days)
    while (moment := moment + timedelta(minutes=1)) < end:
        if is_day(moment.date()):
            yield moment
        else:
            moment = moment.replace(hour=23, minute=59)


def _allowed(field: str, among: tuple[int, int]) -> set[int]:
    """The numbers that a field allows: `*`, `5`, `1-5`, `*/2`, `1-30/7`, and lists of these."""
    allowed: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, last = among
        if span != "*":
            low, _, high = span.partition("-")
            first, last = int(low), int(high or low)
        allowed.update(range(first, last + 1, int(step or 1)))
    return allowed
