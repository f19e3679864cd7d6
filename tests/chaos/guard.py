"""Ends what a run has started, when the run itself is gone: `python -m tests.chaos.guard ROOT`.

It waits for the end of its standard input, which the kernel closes however the run ended.
"""

import sys
from pathlib import Path

from ..servers import kill, processes_below
from . import machines

if __name__ == "__main__":
    root = Path(sys.argv[1])
    sys.stdin.read()
    while left := processes_below(root):
        kill(left)
    if machines.missing() is None:
        machines.remove(root)
