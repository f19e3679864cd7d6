"""How long a user's condition takes, alone and while others hang: `python bench/conditions.py`.

From the question to the answer, through the processes in which conditions are evaluated and without
the rest of a deployment; each figure over so many events in a row. No condition waits for one that
hangs, so the lines should differ little.
"""

import argparse
import queue
import statistics
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from aiflow_core import Condition
from aiflow_core.model.condition import as_data
from aiflow_core.model.event import Event
from aiflow_core.model.execution import WorkflowTrigger
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_scheduler_event.conditions import ConditionHosts, Limits
from aiflow_scheduler_event.state import Evaluation, Scope, ScopeKind, State

HEALTHY, HANGING = 1, 2


class Healthy(Condition):
    def is_met(self, event, context):
        return True


class Hanging(Condition):
    def is_met(self, event, context):
        while True:
            pass


class Bench:
    """A condition that answers and one that hangs, and hosts that are asked about them."""

    def __init__(self, home: Path) -> None:
        limits = Limits(time_limit=3600.0, tries=1)
        self._answers: queue.Queue[Event] = queue.Queue()
        self._hosts = ConditionHosts(
            MemoryBlobManager(), home, sys.executable, limits, self._answers.put
        )
        now = datetime.now(UTC)
        self._state = State()
        for number, condition in ((HEALTHY, Healthy(["x"])), (HANGING, Hanging(["x"]))):
            rule = as_data(condition)
            self._state.triggers[number] = WorkflowTrigger(number, number, rule, now)

    def close(self) -> None:
        self._hosts.close()

    def ask(self, trigger: int) -> None:
        number = len(self._state.evaluations) + 1
        scope = Scope(ScopeKind.WORKFLOW, number)
        evaluation = Evaluation(number, scope, Event("x"), trigger_id=trigger)
        self._state.evaluations[number] = evaluation
        self._hosts.evaluate(evaluation, self._state)

    def milliseconds(self, count: int) -> list[float]:
        """From the question to the answer, one after the other."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self.ask(HEALTHY)
            self._answers.get()
            taken.append((time.perf_counter() - began) * 1000)
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=500)
    count = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name, closing(Bench(Path(name))) as bench:
        for hanging in range(3):
            if hanging:
                bench.ask(HANGING)
            first, *others = bench.milliseconds(count)
            p50, p99 = statistics.median(others), sorted(others)[int(len(others) * 0.99) - 1]
            print(f"{hanging} hang: first {first:.0f} ms, then p50 {p50:.2f}, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
