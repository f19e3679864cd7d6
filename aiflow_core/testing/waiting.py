"""Waiting for what happens in other threads and processes, where no clock can be moved."""

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds of real time after which a test gives up."""

_LOOK = 0.005


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again; `AssertionError` that says `what` after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not in {PATIENCE} s: {what}"
        time.sleep(_LOOK)
