"""Crash points: named moments at which a test lets the process die.

`crash_point(name)` does nothing, unless the environment variable `AIFLOW_CRASH_AT` holds that name,
or `name:n` for the n-th time that the process passes it. Then the process is gone, as by `kill -9`:
nothing is flushed, closed or released that the kernel does not release itself. The name is added to
the file that `AIFLOW_CRASH_NOTE` names, if any.

There is one before and one after every commit, start of a process, acknowledgement and push, called
`<part>.<what>.before` and `.after`; `tests/test_crash_points.py` finds the places that lack theirs.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "AIFLOW_CRASH_AT"
NOTE = "AIFLOW_CRASH_NOTE"


def crash_point(name: str) -> None:
    """A moment at which this process may die, as far as tests are concerned."""
    if _handler is not None:
        _handler(name)


@contextmanager
def passing(handler: Callable[[str], None]) -> Iterator[None]:
    """Call `handler` with the name of each crash point that is passed inside the block. For
    simulations, whose crash is an exception that the handler raises."""
    global _handler
    before, _handler = _handler, handler
    try:
        yield
    finally:
        _handler = before


def _killer(where: str) -> Callable[[str], None]:
    name, _, number = where.partition(":")
    left = int(number or 1)

    def pass_by(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if left == 0:
                if note := os.environ.get(NOTE):
                    with open(note, "a") as file:
                        file.write(f"{name}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


_handler: Callable[[str], None] | None = (
    _killer(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
)
