"""Workflows through the two servers on SQLite, as a user has them: `python bench/workflows.py`.

Measured, each beside what the machine itself needs in the same run:

* 40 sequential Python tasks, and 40 Bash tasks, each attempt a process of its own: from `start` to
  SUCCESS, beside a bare loop of 40 forks and 80 durable SQLite commits;
* a fan-out of 200 Python tasks;
* an event from outside until the first line of the user's code runs, p50 and p99;
* 100 executions of a chain of 5 tasks, all started at once.

Everything runs on loopback, in temporary directories, and is stopped at the end.
"""

import argparse
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiflow_core import ops
from aiflow_core.model.event import Event
from aiflow_core.plugins import make

COMMON = """
import os, time
from pathlib import Path
from aiflow_core import TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

def nothing():
    pass

def chain(length, make):
    before = None
    for number in range(length):
        task = make(f"t{number}")
        if before is not None:
            task.start_after(before)
        before = task
"""

# Each in a file of its own, as users have them.
WORKFLOWS = {
    "python40": """
with Workflow("python40") as workflow:
    chain(40, lambda name: PythonOperator(name, nothing))
""",
    "bash40": """
with Workflow("bash40") as workflow:
    chain(40, lambda name: BashOperator(name, "true"))
""",
    "chain5": """
with Workflow("chain5") as workflow:
    chain(5, lambda name: PythonOperator(name, nothing))
""",
    "fan": """
with Workflow("fan") as workflow:
    first = PythonOperator("first", nothing)
    middle = [PythonOperator(f"m{number}", nothing) for number in range(200)]
    last = PythonOperator("last", nothing)
    for task in middle:
        task.start_after(first)
    last.start_after(middle)
""",
    "latency": """
def note():
    Path(os.environ["BENCH_MARK"]).write_text(str(time.time_ns()))

with Workflow("latency") as workflow:
    noted = PythonOperator("noted", note)
    noted.action_on_event_received(TaskAction.START, "go")
""",
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def servers(home: Path) -> Iterator[str]:
    """The two servers of the quickstart, ready; yields the notification server's address."""
    ports = {"notification": free_port(), "aiflow": free_port()}
    uri = f"127.0.0.1:{ports['notification']}"
    os.environ.update(
        AIFLOW_HOME=str(home / "aiflow"),
        NOTIFICATION_HOME=str(home / "notification"),
        AIFLOW__NOTIFICATION__SERVER_PORT=str(ports["notification"]),
        AIFLOW__SERVER__RPC_PORT=str(ports["aiflow"]),
        AIFLOW__SERVER__NOTIFICATION_SERVER_URI=uri,
        AIFLOW__CLIENT__SERVER_ADDRESS=f"127.0.0.1:{ports['aiflow']}",
        BENCH_MARK=str(home / "mark"),
    )
    bin_directory = Path(sys.executable).parent

    def run(program: str, *arguments: str) -> None:
        command = [str(bin_directory / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    for program in ("notification", "aiflow"):
        run(program, "config", "init")
        run(program, "db", "init")
        run(program, "server", "start", "-d")
    try:
        yield uri
    finally:
        run("aiflow", "server", "stop")
        run("notification", "server", "stop")


def execution_seconds(workflow: str, count: int = 1) -> float:
    """From the first start to the last end, by the server's own records."""
    ids = [ops.start_workflow_execution(workflow) for _ in range(count)]
    executions = []
    for execution_id in ids:
        while (execution := ops.get_workflow_execution(execution_id)).end_date is None:
            time.sleep(0.02)
        assert execution.status == "SUCCESS", execution.reason
        executions.append(execution)
    begin = min(e.begin_date for e in executions)
    return max((e.end_date - begin).total_seconds() for e in executions if e.end_date)


def bare_loop(directory: Path, forks: int = 40, commits: int = 80) -> float:
    """The least a machine can do for a chain: forks and durable commits, one after the other."""
    database = sqlite3.connect(directory / "bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS t (x)")
    began = time.perf_counter()
    for number in range(max(forks, commits)):
        if number < forks:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        if number < commits:
            database.execute("INSERT INTO t VALUES (1)")
    return time.perf_counter() - began


def event_to_user_code(uri: str, count: int) -> list[float]:
    """Milliseconds from the call that sends an event to the first line of the task it starts."""
    mark = Path(os.environ["BENCH_MARK"])
    execution_id = ops.start_workflow_execution("latency")
    store = make("aiflow.event_store", "notification-server", {"server_uri": uri})
    taken = []
    for _ in range(count + 5):
        mark.unlink(missing_ok=True)
        began = time.time_ns()
        store.append([Event("go", namespace="default")])
        while not mark.exists() or not (text := mark.read_text()):
            time.sleep(0.0005)
        taken.append((int(text) - began) / 1e6)
        while ops.list_task_executions(execution_id)[-1].end_date is None:
            time.sleep(0.005)
    ops.stop_workflow_execution(execution_id)
    store.close()
    return sorted(taken[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each workflow")
    parser.add_argument("--events", type=int, default=200, help="events for the latency")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as uri:
        for workflow, text in WORKFLOWS.items():
            file = Path(name) / f"{workflow}.py"
            file.write_text(COMMON + text)
            ops.upload_workflows(file)

        def median(workflow: str, count: int = 1) -> float:
            execution_seconds(workflow, count)  # warms up
            return statistics.median(
                execution_seconds(workflow, count) for _ in range(arguments.runs)
            )

        bare = statistics.median(bare_loop(Path(name)) for _ in range(arguments.runs))
        print(f"40 forks and 80 durable commits, bare: {bare * 1000:.0f} ms")
        for workflow, what in (
            ("python40", "40 sequential Python tasks"),
            ("bash40", "40 sequential Bash tasks"),
            ("fan", "1 -> 200 -> 1 Python tasks"),
        ):
            seconds = median(workflow)
            print(f"{what}: {seconds * 1000:.0f} ms, {seconds / bare:.1f} x bare")
        print(f"100 executions of 5 tasks: {median('chain5', 100) * 1000:.0f} ms")
        latencies = event_to_user_code(uri, arguments.events)
        p99 = latencies[int(len(latencies) * 0.99) - 1]
        print(
            f"event to first line of user code, {len(latencies)} events: "
            f"p50 {statistics.median(latencies):.2f} ms, p99 {p99:.2f} ms"
        )


if __name__ == "__main__":
    main()
