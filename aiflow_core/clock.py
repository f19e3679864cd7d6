"""The clock: the only file that reads the machine's time.

Everything that needs to know the time or to wait is handed a `Clock`; tests hand in
`aiflow_core.testing.ManualClock` and move it. Wire and disk carry integer milliseconds since the
epoch, Python carries aware UTC datetimes; the two conversions stand here.
"""

import threading
import time
from datetime import UTC, datetime


class Clock:
    """The machine's time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait until `event` is set, at most `seconds`; says whether it was set."""
        return event.wait(seconds)


def to_datetime(ms: int) -> datetime:
    """Milliseconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def to_ms(moment: datetime) -> int:
    """A datetime as milliseconds since the epoch; a naive one is read as local time."""
    return round(moment.timestamp() * 1000)
