"""How long the local executor takes, beside a bare loop of forks.

    python bench/executor.py [--attempts 40] [--burst 200]

Figures are medians in milliseconds, unless they say otherwise.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from aiflow_core.bundle import pack
from aiflow_core.deployment import Deployment
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.specs.executor import alone
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_executor_local.executor import LocalExecutor

PAUSE = 0.05
"""Seconds in which a zygote has its next child ready, where the latency of a single one counts."""

FLOW = """
import os, time
from aiflow_core import Operator, Workflow

class Mark(Operator):
    def start(self, context):
        os.write(FD, b"%d start %d\\n" % (context.key.sequence_number, time.monotonic_ns()))
        os.write(FD, b"%d end %d\\n" % (context.key.sequence_number, time.monotonic_ns()))

FD = os.open({journal!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Workflow("flow") as workflow:
    Mark("mark")
"""


class Bench:
    def __init__(self, stack: ExitStack, directory: Path, parallelism: int) -> None:
        self._journal = directory / "journal"
        self._numbers: Iterator[int] = iter(range(1_000_000))
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()
        blobs = MemoryBlobManager()
        (directory / "flow.py").write_text(FLOW.format(journal=str(self._journal)))
        archive, bundle = pack(directory / "flow.py", [], directory)
        self._bundle = msgspec.structs.replace(bundle, uri=blobs.upload(archive))
        self._executor = LocalExecutor(parallelism=parallelism)
        self._executor.start(
            stack,
            Deployment(
                home=directory, log_dir=directory / "logs", notification_uri="127.0.0.1:50052"
            ),
            blobs,
            self._take,
            alone,
        )

    def run(self, task: TaskDefinition, count: int, *, at_once: bool) -> dict[int, int]:
        """Run the task `count` times; when each was submitted, ns."""
        submitted = {}
        for number in (next(self._numbers) for _ in range(count)):
            submitted[number] = time.monotonic_ns()
            self._executor.submit(
                AttemptRequest(
                    key=AttemptKey(
                        workflow_execution_id=1, task_name=task.name, sequence_number=number
                    ),
                    namespace="default",
                    workflow_name="flow",
                    task=task,
                    bundle=self._bundle if not task.operator else None,
                )
            )
            if not at_once:
                self._await([number])
        self._await(list(submitted))
        return submitted

    def marks(self, word: str) -> dict[int, int]:
        """When each attempt wrote the word, ns."""
        lines = [line.split() for line in self._journal.read_text().splitlines()]
        return {int(number): int(when) for number, what, when in lines if what == word}

    def ended(self, number: int) -> int:
        """When the end of the attempt was reported, ns."""
        return self._ended[number]

    def _await(self, numbers: list[int]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: all(n in self._ended for n in numbers), 120):
                raise TimeoutError("The attempts do not end.")

    def _take(self, report: AttemptReport) -> None:
        if report.status is TaskStatus.FAILED:
            raise RuntimeError(report.reason)
        if report.status in TASK_FINISHED:
            with self._changed:
                self._ended[report.key.sequence_number] = time.monotonic_ns()
                self._changed.notify_all()


def bare_forks(count: int) -> float:
    """Milliseconds per fork, exit and wait of a process like this one."""
    began = time.monotonic_ns()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return (time.monotonic_ns() - began) / count / 1e6


def median_ms(values: Iterator[int]) -> float:
    return statistics.median(values) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=40)
    parser.add_argument("--burst", type=int, default=200)
    options = parser.parse_args()
    forks = bare_forks(options.burst)
    print(f"{'bare fork, exit, wait':44}{forks:8.2f}")
    mark = TaskDefinition(name="mark")
    bash = TaskDefinition(name="bash", operator="bash", params={"bash_command": "true"})
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        bench = Bench(stack, Path(directory), parallelism=10)
        for task, what in ((mark, "bundle"), (bash, "bash")):
            began = time.monotonic_ns()
            bench.run(task, 1, at_once=False)
            print(f"{f'{what}: first attempt':44}{(time.monotonic_ns() - began) / 1e6:8.2f}")
            submitted: dict[int, int] = {}
            for _ in range(options.attempts):
                time.sleep(PAUSE)
                submitted |= bench.run(task, 1, at_once=False)
            started, over = bench.marks("start"), bench.marks("end")
            if task is mark:
                first = median_ms(started[n] - submitted[n] for n in submitted)
                last = median_ms(bench.ended(n) - over[n] for n in submitted)
                print(f"{f'{what}: submit -> first line of user code':44}{first:8.2f}")
                print(f"{f'{what}: last line of user code -> report':44}{last:8.2f}")
            submitted = bench.run(task, options.attempts, at_once=False)
            whole = median_ms(bench.ended(n) - submitted[n] for n in submitted)
            print(f"{f'{what}: one of {options.attempts} in sequence':44}{whole:8.2f}")
            began = time.monotonic_ns()
            bench.run(task, options.burst, at_once=True)
            burst = (time.monotonic_ns() - began) / 1e6
            print(f"{f'{what}: {options.burst} at once, all of them':44}{burst:8.2f}")


if __name__ == "__main__":
    main()
