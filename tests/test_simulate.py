"""`aiflow workflow simulate`: what a workflow file would do, without any server."""

import json
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aiflow_core.cli import aiflow

from .blocks import codes

FILE = """
from aiflow_core import Condition, TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator

class Five(Condition):
    def is_met(self, event, context):
        return int(event.value) == 5

with Workflow(name="reports", namespace="mine") as workflow:
    first = BashOperator("first", "exit 1", retries=1, retry_delay=60)
    second = BashOperator("second", "exit 1")
    second.start_after(first)
    third = BashOperator("third", "exit 1")
    third.action_on_event_received(TaskAction.START, "go")
    fourth = BashOperator("fourth", "exit 1")
    fourth.action_on_condition(TaskAction.START, Five(["number"]))
"""

PATTERNS = """
from aiflow_core import TaskAction, Workflow, all_of, debounce, event, gt
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="patterns") as workflow:
    both = BashOperator("both", "exit 1")
    rows = event("rows").where(n=gt(5))
    both.action_on_condition(TaskAction.START, all_of(rows, event("done")))
    quiet = BashOperator("quiet", "exit 1")
    quiet.action_on_condition(TaskAction.START, debounce(event("done"), 300))
"""

Row = tuple[str, str, str]


class Shell:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "workflow.py"
        self.file.write_text(FILE)

    def script(self, *lines: dict[str, Any]) -> Path:
        path = self.directory / "events.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n\n" for line in lines))
        return path

    def run(self, *words: object, code: int = 0) -> str:
        all_words = ["workflow", "simulate", str(self.file), *map(str, words)]
        result = CliRunner().invoke(aiflow, all_words, prog_name="aiflow")
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    def rows(self, *words: object) -> list[Row]:
        """Time of day, task and what happened."""
        rows = json.loads(self.run(*words, "-o", "json"))
        return [(row["time"][11:19], row["task_name"], row["what"]) for row in rows]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    return Shell(tmp_path)


def test_it_shows_what_would_happen_when_and_why(shell: Shell) -> None:
    events = shell.script(
        {"at": "2h", "key": "go"},
        {"at": 90, "key": "number", "value": "4"},
        {"at": "2024-01-01T01:00:00Z", "key": "number", "value": "5"},
    )

    rows = shell.rows("--events", events, "--task-time", "10m", "--task", "second=RUNNING")

    assert rows == [
        ("00:00:00", "", "START"),
        ("00:00:00", "first", "START"),
        ("00:00:00", "first", "RUNNING"),
        ("00:01:30", "fourth", "NOT MET"),
        ("00:10:00", "second", "START"),
        ("00:10:00", "first", "SUCCESS"),
        ("00:10:00", "second", "RUNNING"),
        ("01:00:00", "fourth", "START"),
        ("01:00:00", "fourth", "RUNNING"),
        ("01:10:00", "fourth", "SUCCESS"),
        ("02:00:00", "third", "START"),
        ("02:00:00", "third", "RUNNING"),
        ("02:10:00", "third", "SUCCESS"),
    ]
    assert not list(shell.directory.glob("home/**/*.db"))


def test_an_attempt_may_end_as_the_file_says(shell: Shell) -> None:
    events = shell.script(
        {"at": "1m", "task": "first", "status": "FAILED", "reason": "no disk"},
        {"at": "1h", "task": "first"},
        {"at": "2h", "task": "second", "status": "FAILED", "reason": "no disk"},
    )
    options = ("-t", "first=RUNNING", "-t", "second=RUNNING")

    rows = shell.rows("--events", events, *options)

    assert ("00:02:00", "first", "RETRY") in rows
    assert rows[-2:] == [("02:00:00", "second", "FAILED"), ("02:00:00", "", "FAILED")]
    assert "task 'second' FAILED: no disk" in shell.run("--events", events, *options, "-o", "plain")


def test_two_days_of_a_schedule(shell: Shell) -> None:
    rows = shell.rows("--schedule", "cron@0 4 * * *", "--until", "2d", "--begin", "2024-02-28")

    assert [row for row in rows if row[1:] == ("", "START")] == [("04:00:00", "", "START")] * 2
    assert [row for row in rows if row[1:] == ("", "SUCCESS")] == [("04:00:00", "", "SUCCESS")] * 2


def test_patterns_are_simulated(shell: Shell) -> None:
    shell.file.write_text(PATTERNS)
    events = shell.script(
        {"at": "1m", "key": "rows", "value": '{"n": 7}'},
        {"at": "2m", "key": "rows", "value": '{"n": 1}'},
        {"at": "3m", "key": "done"},
    )

    rows = shell.rows("--events", events, "--task-time", "1m")

    assert [row for row in rows if row[1]] == [
        ("00:01:00", "both", "NOT MET"),
        ("00:02:00", "both", "NOT MET"),
        ("00:03:00", "both", "START"),
        ("00:03:00", "quiet", "NOT MET"),
        ("00:03:00", "both", "RUNNING"),
        ("00:04:00", "both", "SUCCESS"),
        ("00:08:00", "quiet", "START"),
        ("00:08:00", "quiet", "RUNNING"),
        ("00:09:00", "quiet", "SUCCESS"),
    ]
    assert "missing: an event with key 'done'" in shell.run("--events", events, "-o", "plain")


def test_a_failure_is_as_planned(shell: Shell) -> None:
    rows = shell.rows("--task", "first=FAILED")

    assert rows[-1] == ("00:01:00", "", "FAILED")
    assert ("00:01:00", "first", "RETRY") in rows


@pytest.mark.parametrize("output", ["table", "plain", "yaml"])
def test_every_format_shows_the_reason(shell: Shell, output: str) -> None:
    assert "rule 1 (first SUCCESS)" in shell.run("-o", output)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"at": "soon", "key": "x"}, "Line 1 of events.jsonl: 'soon' is no moment. Write 90"),
        ({"at": 1}, "Line 1 of events.jsonl: It has to have either `key` or `task`."),
        ({"key": "x", "task": "first"}, "Line 1 of events.jsonl: It has to have either"),
        ({"task": "first", "status": "RUNNING"}, "Line 1 of events.jsonl: An attempt of a task "),
        ({"key": "x", "vlaue": "1"}, "Line 1 of events.jsonl: This is not a valid Line: "),
        ({"at": "2020-01-01", "key": "x"}, "Line 1 of events.jsonl: '2020-01-01' is before "),
    ],
)
def test_a_line_that_is_wrong_is_named(shell: Shell, line: dict[str, Any], error: str) -> None:
    assert shell.run("--events", shell.script(line), code=2).startswith(f"Error: {error}")


def test_what_cannot_be_is_said(shell: Shell) -> None:
    late = shell.script({"at": "1h", "task": "second", "status": "FAILED"})

    assert "no attempt of task 'second' runs" in shell.run("--events", late, code=4)
    assert "There is no task 'frist'. Did you mean 'first'?" in shell.run(
        "-t", "frist=FAILED", code=2
    )
    assert "has no workflow 'other'" in shell.run("-w", "other", code=2)
    assert "cannot be read" in shell.run("--events", shell.directory / "none", code=2)
    assert "is not a time expression" in shell.run("--schedule", "hourly", code=2)
    assert "is no moment" in shell.run("--begin", "tomorrow", code=2)


def test_the_manual_is_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "how-to/test-a-workflow.md"
    workflow, tests = codes(page, "python")
    (events,) = codes(page, "json")
    commands, _ = codes(page, "bash")
    (message,) = codes(page, "text")
    failing = """
        def test_that_fails(aiflow_workflow):
            flow = aiflow_workflow("workflow.py")
            flow.start()
            flow.assert_status("train", "SUCCESS")
    """
    (tmp_path / "workflow.py").write_text(workflow)
    (tmp_path / "test_workflow.py").write_text(tests + textwrap.dedent(failing))
    (tmp_path / "events.jsonl").write_text(events)
    monkeypatch.chdir(tmp_path)

    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    tested = subprocess.run(pytest_command, capture_output=True, text=True, timeout=60)
    assert "1 failed, 4 passed" in tested.stdout, tested.stdout
    for line in message.splitlines():
        assert line.strip() in tested.stdout
    shown = []
    for line in commands.splitlines():
        _, *words = shlex.split(line)
        result = CliRunner().invoke(aiflow, words, prog_name="aiflow")
        assert result.exit_code == 0, result.output
        shown.append(result.stdout)
    assert "task 'train' FAILED: out of memory" in shown[0]
    rows = json.loads(shown[1])
    assert len([r for r in rows if (r["task_name"], r["what"]) == ("", "SUCCESS")]) == 7
