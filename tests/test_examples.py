"""Each example does what its README says, run as its README says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .servers import TwoServers

EXAMPLES = Path(__file__).parent.parent / "examples"
AIFLOW = Path(sys.executable).parent / "aiflow"
PNG = b"\x89PNG\r\n\x1a\n"


def run(home: Path, example: str, *options: str, expect: int = 0) -> str:
    """What `aiflow run` prints of an example, in a home of its own."""
    return run_file(home, EXAMPLES / example / "workflow.py", *options, expect=expect)


def run_file(home: Path, file: Path, *options: str, expect: int = 0) -> str:
    """What `aiflow run` prints, in a home of its own."""
    done = subprocess.run(
        [str(AIFLOW), "run", str(file), *options],
        env={**os.environ, "AIFLOW_HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib")},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def lines_of(task: str, output: str) -> list[str]:
    """What the task printed, as `aiflow run` shows it, without the lines that it logged."""
    head = f"[{task}] "
    said = [line.removeprefix(head) for line in output.splitlines() if line.startswith(head)]
    return [line for line in said if not line.startswith("[")]


def test_quickstart_runs_its_four_tasks_in_order(tmp_path: Path) -> None:
    output = run(tmp_path, "quickstart")
    assert lines_of("task1", output) == ["I am the 1st task."]
    assert lines_of("task2", output) == ["I am the 2nd task."]
    assert lines_of("task3", output) == ["Sending event with key: key"]
    assert lines_of("task4", output) == ["I am the 4th task."]
    assert output.index("[task3]") < output.index("[task4]")


def test_custom_condition_starts_the_consumer_once_the_numbers_add_up(tmp_path: Path) -> None:
    output = run(tmp_path, "custom_condition")
    assert lines_of("consumer", output) == ["Got 100 records."]


def test_periodic_ticks_every_second_and_tocks_after_each_tick(tmp_path: Path) -> None:
    output = run(tmp_path, "periodic", "--for", "10s")
    ticks, tocks = lines_of("tick", output), lines_of("tock", output)
    assert len(ticks) >= 2
    assert len(ticks) - 1 <= len(tocks) <= len(ticks)


def test_online_ml_deploys_better_and_better_models(tmp_path: Path) -> None:
    output = run(tmp_path, "online_ml")
    head, *table, chart = lines_of("report", output)
    assert head.split() == ["deployed", "model", "accuracy"]
    accuracies = [float(line.split()[1]) for line in table]
    assert len(accuracies) >= 2
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] > 0.93
    assert Path(chart.removeprefix("chart: ")).read_bytes().startswith(PNG)


@pytest.mark.timeout(180)
def test_event_trigger_starts_the_second_workflow(two_servers: TwoServers) -> None:
    subprocess.run(
        [sys.executable, str(EXAMPLES / "event_trigger" / "workflow.py")],
        env=two_servers.environment,
        check=True,
        timeout=60,
    )
    (execution,) = two_servers.until(
        lambda: two_servers.rows("aiflow workflow-execution list evaluate_workflow")
    )
    assert execution["run_type"] == "EVENT"
    ended = two_servers.ended("evaluate_workflow", execution["id"])
    assert ended["status"] == "SUCCESS"
