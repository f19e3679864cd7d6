"""A clock that stands still until a test moves it."""

import threading
import time

from aiflow_core.clock import Clock

# An Event cannot be waited for together with a change of time: a waiter looks this often, seconds.
_LOOK = 0.002


class ManualClock(Clock):
    """Time moves by `advance` only, and then everyone is woken whose time has come."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._lock = threading.Lock()
        self._now_ms = float(now_ms)
        self._monotonic = 0.0
        self._waiters = 0

    def now_ms(self) -> int:
        with self._lock:
            return int(self._now_ms)

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        with self._lock:
            until = None if seconds is None else self._monotonic + seconds
            self._waiters += 1
        try:
            while not event.is_set() and (until is None or self.monotonic() < until):
                event.wait(_LOOK)
            return event.is_set()
        finally:
            with self._lock:
                self._waiters -= 1

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError("Time does not pass backwards; to set the wall clock use `jump`.")
        with self._lock:
            self._monotonic += seconds
            self._now_ms += seconds * 1000

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator may; no time passes."""
        with self._lock:
            self._now_ms += seconds * 1000

    def await_waiters(self, count: int = 1, timeout: float = 10.0) -> None:
        """Return when at least `count` threads are in `wait`, so that `advance` will reach them.

        `TimeoutError` when that takes longer than `timeout` seconds of real time.
        """
        deadline = time.monotonic() + timeout
        while self._waiters < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._waiters} of {count} threads wait for this clock.")
            time.sleep(_LOOK)
