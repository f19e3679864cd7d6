"""Nothing that a run has started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from .chaos.deployment import ROOT


def test_what_is_below_the_directory_of_a_run_ends_when_the_run_is_gone(tmp_path: Path) -> None:
    environment = {**os.environ, "AIFLOW_HOME": str(tmp_path / "1" / "aiflow")}
    left = subprocess.Popen(["sleep", "100"], env=environment)
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.guard", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    assert guard.stdin is not None

    guard.stdin.close()  # as the kernel does for whom it has ended

    assert guard.wait(30) == 0
    assert left.wait(30) == -signal.SIGKILL
