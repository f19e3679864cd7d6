"""`aiflow run`, in a process of its own, as a user has it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .servers import PROGRAMS, kill, processes_of, until

TWO_WORKFLOWS = """\
from aiflow_core import TaskAction, Workflow
from aiflow_core.model.execution import RunningTask
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator


def measure():
    from parts.measures import total

    print("in namespace", RunningTask.from_environment().namespace)
    with AIFlowNotificationClient("localhost:50052") as client:
        client.send_event("measured", str(total("numbers.txt")))


with Workflow(name="main") as main:
    show = BashOperator(name="show", bash_command="cat numbers.txt")
    measuring = PythonOperator(name="measure", python_callable=measure)
    measuring.start_after(show)
    after = BashOperator(name="after", bash_command="echo the event has come")
    after.action_on_event_received(TaskAction.START, "measured")

with Workflow(name="other") as other:
    BashOperator(name="left_out", bash_command="exit 1")
"""

FAILING = """\
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator


def divide():
    return 1 / 0


with Workflow(name="failing") as workflow:
    fine = BashOperator(name="fine", bash_command="echo well")
    wrong = PythonOperator(name="wrong", python_callable=divide)
    wrong.start_after(fine)
"""

STREAM = """\
import time

from aiflow_core import Workflow
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator


def produce():
    with AIFlowNotificationClient("localhost:50052") as client:
        for number in range(100_000):
            client.send_event("tick", str(number))
            time.sleep(0.1)


with Workflow(name="stream") as workflow:
    PythonOperator(name="producer", python_callable=produce)
    BashOperator(name="sleeper", bash_command="sleep 600 & sleep 600")
    BashOperator(name="quick", bash_command="true")
"""

SINGLE = """\
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="single") as workflow:
    BashOperator(name="only", bash_command="true")
"""


@dataclass(frozen=True)
class Place:
    """A directory with a workflow file, and a home for its runs."""

    folder: Path
    home: Path

    def begin(self, text: str, *options: str) -> subprocess.Popen[str]:
        (self.folder / "workflow.py").write_text(text)
        return subprocess.Popen(
            [str(PROGRAMS / "aiflow"), "run", "workflow.py", *options],
            env={**os.environ, "AIFLOW_HOME": str(self.home)},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str, *options: str, expect: int = 0) -> tuple[str, str]:
        """What the command prints to stdout and to stderr. It must exit with `expect`, and leave
        no process behind."""
        with self.begin(text, *options) as process:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == expect, f"{output}\n{errors}"
        assert processes_of(self.home) == []
        return output, errors


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all, because tables are made only once; nobody runs beside another."""
    home = tmp_path_factory.mktemp("home")
    yield home
    kill(processes_of(home))


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Place:
    return Place(tmp_path, home)


def test_a_workflow_with_files_runs_in_a_namespace(place: Place) -> None:
    (place.folder / "numbers.txt").write_text("3\n4\n")
    (place.folder / "parts").mkdir()
    (place.folder / "parts" / "measures.py").write_text(
        "def total(file):\n    return sum(map(int, open(file).read().split()))\n"
    )

    output, errors = place.run(
        TWO_WORKFLOWS,
        *("--workflow", "main", "--namespace", "team"),
        *("--files", "parts,numbers.txt"),
    )

    lines = output.splitlines()
    assert "[show] 3" in lines
    assert "[show] 4" in lines
    assert "[measure] in namespace team" in lines
    assert "[after] the event has come" in lines
    assert lines[-1] == "main: SUCCESS"
    assert "event measured = 7 from " in errors
    assert "left_out" not in output + errors


def test_a_failing_task_fails_the_run_with_its_name_and_reason(place: Place) -> None:
    output, errors = place.run(FAILING, "-o", "json", expect=10)

    (last,) = errors.splitlines()[-1:]
    assert last.startswith("Error: Workflow execution ")
    assert "'wrong'" in last
    assert "ZeroDivisionError: division by zero (workflow.py:7)" in last
    shown = json.loads(output)
    (execution,) = shown["workflow_executions"]
    assert execution["status"] == "FAILED"
    assert [(task["task_name"], task["status"]) for task in shown["task_executions"]] == [
        ("fine", "SUCCESS"),
        ("wrong", "FAILED"),
    ]
    assert "[fine] well" in errors, "what tasks say must not get between the JSON"


def test_a_stream_is_stopped_when_its_time_is_up(place: Place) -> None:
    output, errors = place.run(STREAM, "--for", "4s")

    assert output.splitlines()[-1].startswith("stream: STOPPED")
    assert "task producer #1 STOPPED" in errors
    assert "task sleeper #1 STOPPED" in errors


@pytest.mark.parametrize(
    "goal", [("--until-event", "ti*"), ("--until", "quick=SUCCESS")], ids=["event", "status"]
)
def test_a_stream_is_stopped_when_its_goal_is_reached(place: Place, goal: tuple[str, str]) -> None:
    _, errors = place.run(STREAM, *goal, "--for", "50s")

    assert "task producer #1 STOPPED" in errors


def test_a_goal_that_is_not_reached_in_time_is_an_error(place: Place) -> None:
    _, errors = place.run(STREAM, "--until-event", "never", "--for", "2s", expect=7)

    assert errors.splitlines()[-1] == "Error: Event 'never' did not come within 2 s."


def test_a_workflow_that_ends_before_its_goal_is_an_error(place: Place) -> None:
    _, errors = place.run(SINGLE, "--until", "only=FAILED", expect=10)

    assert errors.splitlines()[-1] == "Error: The workflow ended before only=FAILED came."


@contextmanager
def at_work(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A run whose tasks have begun."""
    with place.begin(STREAM) as process:
        try:
            until(lambda: sleepers(place) == 2, facts=lambda: process.poll())
            yield process
        finally:
            process.kill()


def sleepers(place: Place) -> int:
    return sum(process.info["name"] == "sleep" for process in processes_of(place.home))


def test_interrupted_it_stops_its_tasks_and_says_so(place: Place) -> None:
    with at_work(place) as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=40)

    assert process.returncode == 130, errors
    assert processes_of(place.home) == []
    assert "Interrupted: all tasks are stopped." in errors
    assert "Traceback" not in errors.replace("[producer] Traceback", "")
    assert output.splitlines()[-1].startswith("stream: STOPPED")


def test_killed_it_takes_its_tasks_along_and_leaves_nothing_to_the_next_run(place: Place) -> None:
    with at_work(place) as process:
        process.kill()
    until(lambda: not processes_of(place.home), 20, lambda: processes_of(place.home))

    output, errors = place.run(SINGLE)

    assert output.splitlines()[-1] == "single: SUCCESS"
    assert "stream" not in output
    assert "producer" not in output + errors


def test_without_a_home_it_leaves_its_files_in_a_temporary_one(place: Place) -> None:
    (place.folder / "workflow.py").write_text(SINGLE)
    done = subprocess.run(
        [str(PROGRAMS / "aiflow"), "run", "workflow.py"],
        env={k: v for k, v in os.environ.items() if k != "AIFLOW_HOME"}
        | {"TMPDIR": str(place.folder)},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    (home,) = place.folder.glob("aiflow-*")
    assert f"Logs and files of this run: {home}" in done.stderr
