"""`aiflow explain` and `aiflow rule test` before the two servers of a deployment, as people and
programs read them."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from aiflow_core import ops
from aiflow_core.app import App
from aiflow_core.cli import aiflow
from aiflow_core.plugins import make

from .blocks import codes

PAGE = "how-to/explain.md"
FILE, SCRIPT = codes(PAGE, "python")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The id of an execution in which two tasks have succeeded, one waits and one runs on."""
    home = tmp_path_factory.mktemp("aiflow")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("AIFLOW_HOME", str(home))
        patch.setenv("AIFLOW__SERVER__RPC_PORT", "0")
        patch.chdir(home)
        events = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{home / 'ns.db'}"})
        stack.callback(events.close)
        events.initialize()
        notification = make("aiflow.endpoint", "notification", {"port": 0})
        address = notification.start(stack, events, None)
        patch.setenv("AIFLOW__SERVER__NOTIFICATION_SERVER_URI", address)
        with App.configured().tables() as tables:
            tables.initialize()
        patch.setenv("AIFLOW__CLIENT__SERVER_ADDRESS", App.configured().serve(stack))
        file = home / "reports.py"
        file.write_text(FILE)
        ops.upload_workflows(str(file))
        execution = ops.start_workflow_execution("reports")
        _until(lambda: _statuses(execution).get("second") == "SUCCESS")
        yield execution
        ops.stop_workflow_execution(execution)
        _until(lambda: ops.get_workflow_execution(execution).end_date is not None)


def _statuses(execution: int) -> dict[str, str]:
    return {t.task_name: str(t.status) for t in ops.list_task_executions(execution)}


def _until(condition: Callable[[], bool]) -> None:
    import threading

    for _ in range(1200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("not within 60 s")


def says(*words: object, code: int = 0) -> str:
    return run("explain", *words, code=code)


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(aiflow, [str(word) for word in words], prog_name="aiflow")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result.stderr if code else result.stdout


def plain(*words: object) -> Any:
    return json.loads(says(*words, "-o", "json"))


def test_the_commands_of_the_manual_answer(deployment: int) -> None:
    lines = [line for code in codes(PAGE, "bash") for line in code.splitlines()]

    assert len(lines) == 5
    for line in lines:
        program, *words = line.split()
        assert program == "aiflow"
        assert run(*words)


def test_the_script_of_the_manual_runs(deployment: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(SCRIPT, {})

    printed = capsys.readouterr().out
    assert "waits for an event with key 'data_ready'" in printed
    assert "[('data_ready',)]" in printed


def test_people_read_why_a_task_ran(deployment: int) -> None:
    lines = says("task", deployment, "second").splitlines()

    assert lines[0].startswith(
        f"Task 'second' of workflow execution {deployment} ran, started by rule 1 (first SUCCESS), "
    )
    assert lines[0].endswith("it ended with SUCCESS.")
    assert lines[1:3] == ["", "Decisions"]
    assert "START  workflow execution 1, task 'second': rule 1 (first SUCCESS), " in lines[3]
    assert lines[5] == "What would start it again"


def test_people_read_why_a_task_has_not_run(deployment: int) -> None:
    assert says("task", deployment, "third").startswith(
        f"Task 'third' of workflow execution {deployment} has not run: "
        "rule 1 (START) waits for an event with key 'data_ready'.\n"
    )


def test_programs_read_the_same(deployment: int) -> None:
    found = plain("task", deployment, "third")

    assert found["task"] is None
    (wait,) = found["waits"]
    (lack,) = wait["missing"]
    assert lack["text"] == "an event with key 'data_ready'"
    assert lack["event_keys"] == ["data_ready"]
    assert yaml.safe_load(says("task", deployment, "third", "-o", "yaml"))["waits"] == [wait]


def test_one_execution_of_a_task_is_explained_by_its_id(deployment: int) -> None:
    (second,) = [t for t in ops.list_task_executions(deployment) if t.task_name == "second"]

    found = plain("task-execution", second.id)

    assert found["task"]["id"] == second.id
    assert [d["what"] for d in found["decisions"]] == ["START"]
    assert found["waits"] == []


def test_from_an_event_one_gets_to_what_it_led_to(deployment: int) -> None:
    (decision,) = ops.explain_task(deployment, "second").decisions

    text = says("event", decision.offset)

    assert "TASK_STATUS task_status.reports.first = SUCCESS in default" in text
    assert f"led to START of task 'second' in workflow execution {deployment}" in text
    (started,) = ops.explain_event(decision.offset).task_executions
    assert f"aiflow explain task-execution {started.id}" in text
    assert "task_status.reports.second = " in text


def test_a_workflow_says_what_would_start_it(deployment: int) -> None:
    schedule = ops.add_workflow_schedule("cron@0 4 * * *", "reports")

    text = says("workflow", "reports")
    ops.pause_workflow_schedule(schedule.id)

    assert f"schedule {schedule.id} (cron@0 4 * * *) fires next, at 20" in text
    assert f"schedule {schedule.id} (cron@0 4 * * *) is paused" in says("workflow", "reports")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("task", 1, "fourth"), "Error: No such task: fourth. The tasks are first, second, "),
        (("task", 99, "first"), "Error: No such workflow execution: 99."),
        (("task-execution", 99), "Error: No such task execution: 99."),
        (("workflow", "unknown"), "Error: No such workflow: default.unknown."),
        (("event", 9999), "Error: No such event: 9999. The log has the events 1 to "),
    ],
)
def test_what_is_not_there_is_not_found(
    deployment: int, words: tuple[object, ...], error: str
) -> None:
    assert says(*words, code=3).startswith(error)


def test_no_color_is_respected(deployment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[36m" in says("task", deployment, "second")

    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in says("task", deployment, "second")


def test_a_server_that_does_not_run_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW__CLIENT__SERVER_ADDRESS", "127.0.0.1:1")

    assert "does not answer" in says("event", 1, code=6)
    assert os.environ["AIFLOW__CLIENT__SERVER_ADDRESS"] == "127.0.0.1:1"


class TestRules:
    """`aiflow rule test`."""

    def decided(self, *words: object) -> list[tuple[str, str]]:
        rows = json.loads(run("rule", "test", *words, "-o", "json"))
        return [(row["task_name"], row["what"]) for row in rows if row["why"]]

    def test_the_log_is_played_again(self, deployment: int) -> None:
        last = ops.explain_task(deployment, "second").decisions[0].offset

        decided = self.decided("--from", 1, "--to", last, "--workflow", "reports")

        assert ("second", "START") in decided
        assert ("third", "START") not in decided

    def test_other_rules_decide_otherwise(self, deployment: int, tmp_path: Path) -> None:
        file = tmp_path / "changed.py"
        changed = FILE.replace("    second.start_after(first)\n", "")
        file.write_text(f"{changed}    second.start_after(anchor)\n")
        last = ops.explain_task(deployment, "second").decisions[0].offset

        decided = self.decided("--from", 1, "--to", last, "--file", file)

        assert ("second", "START") not in decided
        assert ("anchor", "START") in decided

    def test_tasks_may_be_planned_instead(self, deployment: int) -> None:
        decided = self.decided(
            *("--from", 1, "--to", 1, "--workflow", "reports", "--task", "first=FAILED")
        )

        assert ("first", "FAILED") in decided
        assert ("second", "START") not in decided

    def test_nothing_is_written(self, deployment: int) -> None:
        before = json.loads(run("workflow-execution", "list", "reports", "-o", "json"))

        self.decided("--from", 1, "--to", 5, "--workflow", "reports")

        after = json.loads(run("workflow-execution", "list", "reports", "-o", "json"))
        assert [row["id"] for row in after] == [row["id"] for row in before]

    @pytest.mark.parametrize(
        ("words", "code", "error"),
        [
            (("--from", 2, "--to", 1, "-w", "reports"), 2, "Error: --to 1 is before --from 2."),
            (("--from", 1, "--to", 2), 2, "Error: Give --workflow or --file."),
            (("--from", 1, "--to", 2, "-w", "no"), 3, "Error: No such workflow: default.no."),
            (("--from", 9000, "--to", 9001, "-w", "reports"), 3, "Error: No such event: 9000 to"),
            (
                ("--from", 1, "--to", 2, "-w", "reports", "-t", "sceond=FAILED"),
                2,
                "Error: There is no task 'sceond'. Did you mean 'second'?",
            ),
        ],
    )
    def test_what_cannot_be_tried_is_said(
        self, deployment: int, words: tuple[object, ...], code: int, error: str
    ) -> None:
        assert run("rule", "test", *words, code=code).startswith(error)
