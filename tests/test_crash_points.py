"""Crash points: that they kill, and that every place that needs one has one."""

import signal
import subprocess
import sys

from aiflow_core import crash

PASS = """
from aiflow_core.crash import crash_point
for name in ("one", "two", "one"):
    crash_point(name)
    print(name, flush=True)
"""


def passed(where: str) -> tuple[list[str], int]:
    """What a process prints that is to crash there, and its return code."""
    done = subprocess.run(
        [sys.executable, "-c", PASS], env={crash.VARIABLE: where}, capture_output=True, text=True
    )
    return done.stdout.split(), done.returncode


def test_a_process_dies_at_its_crash_point_and_nowhere_else() -> None:
    assert passed("two") == (["one"], -signal.SIGKILL)
    assert passed("one:2") == (["one", "two"], -signal.SIGKILL)
    assert passed("three") == (["one", "two", "one"], 0)
    assert passed("") == (["one", "two", "one"], 0)


def test_a_simulation_is_told_of_every_crash_point_that_is_passed() -> None:
    heard: list[str] = []

    with crash.passing(heard.append):
        crash.crash_point("one")
    crash.crash_point("two")

    assert heard == ["one"]
