"""What commands of the command line have in common, and what they say when something is wrong."""

import json
import os
import pty
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from aiflow_core import ops
from aiflow_core.cli import aiflow
from aiflow_core.cli.waiting import Patience
from aiflow_core.config import PROJECT_VARIABLE
from aiflow_core.errors import WaitTimeoutError
from aiflow_core.testing.clock import ManualClock

from .served import Served, served
from .servers import PROGRAMS, until

USAGE, NOT_FOUND, CONFLICT, TIMEOUT, FAILED = 2, 3, 4, 7, 10

FILE = """
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="{name}") as workflow:
    BashOperator(name="task", bash_command="{command}")
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("commands")) as running:
        upload(running, "good", "echo größe 🦊")
        upload(running, "bad", "exit 3")
        upload(running, "long", "echo begun; sleep 600")
        yield running
        running("aiflow workflow-execution stop-all long --wait")


def upload(deployment: Served, name: str, command: str) -> None:
    (deployment.home / f"{name}.py").write_text(FILE.format(name=name, command=command))
    deployment(f"aiflow workflow upload {name}.py")


def rows(deployment: Served, command: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(deployment(f"{command} -o json").stdout)
    return found


def running_task(execution: int) -> int:
    """The id of its task, when that runs."""
    until(lambda: [t for t in ops.list_task_executions(execution) if t.status == "RUNNING"])
    return ops.list_task_executions(execution)[0].id


class ImpatientClock(ManualClock):
    """Time passes when somebody waits for it."""

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        self.advance(seconds or 0)
        return event.is_set()


class TestOutput:
    def test_the_fields_that_are_wanted_in_the_order_in_which_they_are(
        self, deployment: Served
    ) -> None:
        (first, *_) = rows(deployment, "aiflow workflow list --fields workflow_name,id")
        assert list(first) == ["workflow_name", "id"]
        plain = deployment("aiflow workflow list -o plain --fields ' id , workflow_name '").stdout
        assert plain.splitlines()[:2] == ["id  workflow_name", "1   good"]

    def test_an_unknown_field_is_answered_with_the_nearest(self, deployment: Served) -> None:
        said = deployment("aiflow workflow list --fields id,workflow", code=USAGE)
        assert said.stderr == (
            "Error: There is no field 'workflow'. Did you mean 'workflow_name'?\n"
        )
        assert said.stdout == ""

    def test_a_list_is_shown_page_by_page(self, deployment: Served) -> None:
        command = "aiflow workflow list --fields workflow_name"
        assert rows(deployment, f"{command} --limit 1") == [{"workflow_name": "good"}]
        assert rows(deployment, f"{command} --limit 1 --offset 1") == [{"workflow_name": "bad"}]
        assert rows(deployment, f"{command} --offset 100") == []
        deployment(f"{command} --limit 0", code=USAGE)
        deployment(f"{command} --offset -1", code=USAGE)

    def test_nothing_is_coloured_where_nobody_wants_it(
        self, deployment: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def shown(*words: str) -> str:
            return CliRunner().invoke(aiflow, words, color=True).stdout

        monkeypatch.delenv("NO_COLOR", raising=False)
        assert "\x1b[" in shown("config", "list")
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[" not in shown("config", "list")

    def test_a_status_is_coloured_on_a_terminal_unless_nobody_wants_it(
        self, deployment: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployment("aiflow workflow-execution start good --wait")
        command = "aiflow workflow-execution list good --fields id,status"
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        assert "\x1b[32mSUCCESS" in deployment(command).stdout
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[32m" not in deployment(command).stdout


class TestConfirmation:
    def test_what_is_lost_is_asked_for_at_a_terminal(self, deployment: Served) -> None:
        deployment("aiflow namespace add asked")

        assert self.answered("n", "namespace", "delete", "asked") == 1
        assert ops.get_namespace("asked")
        assert self.answered("y", "namespace", "delete", "asked") == 0
        deployment("aiflow namespace delete asked -y", code=NOT_FOUND)

    def answered(self, answer: str, *words: str) -> int:
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "wb") as keyboard:
            process = subprocess.Popen(
                [PROGRAMS / "aiflow", *words], stdin=theirs, stdout=subprocess.PIPE
            )
            os.close(theirs)
            keyboard.write(f"{answer}\n".encode())
            keyboard.flush()
            process.communicate(timeout=60)
        return process.returncode

    @pytest.mark.parametrize(
        "command",
        [
            "aiflow workflow delete good",
            "aiflow workflow-execution delete 1",
            "aiflow workflow-schedule delete 1",
            "aiflow workflow-trigger delete-all good",
            "aiflow workflow-snapshot delete 1",
            "aiflow event dead drop --all",
            "aiflow db reset",
            "notification db reset",
            "notification db downgrade -v base",
        ],
    )
    def test_without_a_terminal_it_is_refused(self, command: str, deployment: Served) -> None:
        said = deployment(command, code=USAGE)
        assert said.stdout == ""
        assert re.fullmatch(
            r"Error: Nobody can be asked '.*\?': the standard input is no terminal\. "
            r"Say yes with -y\.\n",
            said.stderr.replace("Proceed?'", "?'"),
        )


class TestWaiting:
    def test_the_exit_code_tells_how_it_ended(self, deployment: Served) -> None:
        good = deployment("aiflow workflow-execution start good --wait --timeout 60")
        assert good.stdout.endswith(" ended with SUCCESS.\n")
        bad = deployment("aiflow workflow-execution start bad --wait", code=FAILED)
        assert re.fullmatch(
            r"Error: Workflow execution \d+ ended with FAILED: .*task.*exit code 3.*\.\n",
            bad.stderr,
        )

    def test_a_wait_that_is_too_long_ends(self, deployment: Served) -> None:
        late = deployment("aiflow workflow-execution start long --wait --timeout 200ms", TIMEOUT)
        (number,) = re.findall(r"Workflow execution: (\d+) submitted", late.stdout)
        assert late.stderr == (
            f"Error: Workflow execution {number} has not ended within 0.2 s. Nothing was stopped; "
            "it goes on.\n"
        )
        running_task(int(number))
        deployment(f"aiflow workflow-execution watch {number} --timeout 200ms", TIMEOUT)

        deployment(f"aiflow task-execution start {number} task --wait --timeout 200ms", TIMEOUT)
        stopped = deployment(f"aiflow task-execution stop {number} task --wait")
        assert stopped.stdout.endswith("Task: task ended with STOPPED.\n")

    def test_a_timeout_alone_means_nothing(self, deployment: Served) -> None:
        said = deployment("aiflow workflow-execution start good --timeout 5s", code=USAGE)
        assert said.stderr == "Error: --timeout says how long to --wait, and nothing else.\n"
        said = deployment("aiflow workflow-execution start good --wait --timeout soon", code=USAGE)
        assert "'soon' is no duration; write for example" in said.stderr

    def test_the_clock_is_looked_at_ever_less_often(self) -> None:
        clock, looks = ImpatientClock(), []

        def look() -> None:
            looks.append(clock.monotonic())
            return None

        with pytest.raises(WaitTimeoutError, match="It has not come within 30 s"):
            Patience(timeout=30.0, clock=clock).until(look, "It has not come")
        assert 20 < len(looks) < 60
        assert looks[-1] == 30

    def test_watching_shows_each_change_until_the_end(self, deployment: Served) -> None:
        started = deployment("aiflow workflow-execution start bad")
        (number,) = re.findall(r"\d+", started.stdout)

        watched = deployment(f"aiflow workflow-execution watch {number}", code=FAILED)

        lines = watched.stdout.splitlines()
        assert re.fullmatch(r" +\d+\.\d\d s  workflow \d+, execution \d+: FAILED \(.*\)", lines[-1])
        assert any("task task #1 FAILED" in line for line in lines)
        deployment("aiflow workflow-execution watch 987654", code=NOT_FOUND)


class TestLogs:
    def test_a_log_is_printed_as_it_was_written(self, deployment: Served) -> None:
        deployment("aiflow workflow-execution start good --wait")
        (execution,) = ops.list_workflow_executions("good")[-1:]
        (task,) = ops.list_task_executions(execution.id)

        assert "größe 🦊\n" in deployment(f"aiflow task-execution logs {task.id}").stdout
        assert "größe 🦊\n" in deployment(f"aiflow task-execution logs {task.id} -f").stdout
        said = deployment(f"aiflow task-execution logs {task.id} --try 2", code=NOT_FOUND)
        assert said.stderr.startswith(
            f"Error: No such log of attempt 2 of task execution: {task.id}."
        )
        deployment("aiflow task-execution logs 987654", code=NOT_FOUND)

    def test_a_log_is_followed_until_the_task_ends(self, deployment: Served) -> None:
        execution = ops.start_workflow_execution("long")
        task = running_task(execution)
        stop = threading.Timer(0.5, ops.stop_workflow_execution, [execution])
        stop.start()

        followed = deployment(f"aiflow task-execution logs {task} --follow").stdout

        assert "begun\n" in followed
        assert "The task is asked to stop" in followed

    def test_the_attempts_of_a_task_are_followed_one_after_the_other(
        self, deployment: Served
    ) -> None:
        text = FILE.format(name="again", command="echo tried; exit 3")
        file = deployment.home / "again.py"
        file.write_text(text.replace('3")', '3", retries=2, retry_delay=0.2)'))
        deployment("aiflow workflow upload again.py")
        execution = ops.start_workflow_execution("again")
        (task, *_) = until(lambda: ops.list_task_executions(execution))

        followed = deployment(f"aiflow task-execution logs {task.id} --follow").stdout

        assert followed.count("tried\n") == 3
        one = deployment(f"aiflow task-execution logs {task.id} --try 2 --follow").stdout
        assert one.count("tried\n") == 1


class TestTriggers:
    def test_a_trigger_is_added_by_the_keys_of_events(self, deployment: Served) -> None:
        def started() -> int:
            return len(ops.list_workflow_executions("good"))

        before = started()
        deployment("aiflow workflow-trigger add good --event one --event two --require all")
        deployment("aiflow event send one 1")
        deployment("aiflow event send two 2")
        until(lambda: started() == before + 1)
        said = deployment("aiflow workflow-trigger add good --event three --event four").stdout
        assert re.fullmatch(r"Workflow trigger: \d+ created\.\n", said)
        for key in ("three", "four"):
            deployment(f"aiflow event send {key} x")
        until(lambda: started() == before + 3)
        deployment("aiflow workflow-trigger delete-all good -y")

    def test_a_trigger_is_added_by_the_rule_that_another_shows(self, deployment: Served) -> None:
        deployment("aiflow workflow-trigger add bad --event go")
        (shown,) = rows(deployment, "aiflow workflow-trigger list bad --fields rule")

        deployment(f"aiflow workflow-trigger add bad --rule '{json.dumps(shown['rule'])}'")

        again = rows(deployment, "aiflow workflow-trigger list bad --fields rule")
        assert again == [shown, shown]
        deployment("aiflow workflow-trigger delete-all bad -y")

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ("", "either --event KEY, or --rule JSON"),
            ("--event go --rule '{}'", "either --event KEY, or --rule JSON"),
            ("--rule '{'", "This is not a valid"),
            ('--rule \'{"type": "evnt"}\'', "This is not a valid"),
            ('--rule \'{"type": "custom", "expect_event_keys": ["a"]}\'', "is code"),
            ('--rule \'{"type": "task_status", "statuses": {}}\'', "waits for no event"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, options: str, why: str, deployment: Served
    ) -> None:
        said = deployment(f"aiflow workflow-trigger add bad {options}", code=USAGE)
        assert why in said.stderr
        assert said.stderr.count("\n") == 1


def test_a_snapshot_is_listed_shown_and_deleted(deployment: Served) -> None:
    upload(deployment, "kept", "true")
    (old,) = rows(deployment, "aiflow workflow-snapshot list kept")
    assert list(old) == ["id", "workflow_id", "create_time", "uri", "signature"]
    assert re.fullmatch("[0-9a-f]{64}", old["signature"])
    (shown,) = rows(deployment, f"aiflow workflow-snapshot show {old['id']}")
    assert shown["definition"]["tasks"][0]["name"] == "task"

    upload(deployment, "kept", "false")
    _, new = rows(deployment, "aiflow workflow-snapshot list kept")
    said = deployment(f"aiflow workflow-snapshot delete {new['id']} -y", code=CONFLICT).stderr
    assert "is in use" in said
    said = deployment(f"aiflow workflow-snapshot delete {old['id']} -y").stdout
    assert said == f"Workflow snapshot: {old['id']} deleted.\n"
    deployment("aiflow workflow-snapshot delete-all kept -y")
    assert rows(deployment, "aiflow workflow-snapshot list kept") == [new]


class TestTables:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
        monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
        monkeypatch.setenv("NOTIFICATION_HOME", str(tmp_path))
        return Served(tmp_path)

    @pytest.mark.parametrize(
        ("program", "file"), [("aiflow", "aiflow.db"), ("notification", "ns.db")]
    )
    def test_sql_is_printed_and_nothing_is_changed(
        self, run: Served, program: str, file: str
    ) -> None:
        printed = run(f"{program} db upgrade --sql").stdout
        assert not (run.home / file).exists()

        # What it prints does what it would do.
        with sqlite3.connect(run.home / file) as database:
            database.executescript(printed)
        database.close()
        newest = run(f"{program} db upgrade").stdout
        assert run(f"{program} db upgrade --sql").stdout == ""
        assert "DROP TABLE" in run(f"{program} db downgrade -v 0001 --sql").stdout
        assert "DROP TABLE" in run(f"{program} db reset --sql").stdout
        assert run(f"{program} db downgrade").stdout == newest
        run(f"{program} db downgrade -v 0001 -y")
        assert run(f"{program} db upgrade -v 0001").stdout == "The database is at version 0001.\n"
        assert run(f"{program} db upgrade").stdout == newest

    def test_an_unknown_version_is_refused(self, run: Served) -> None:
        for command in ("upgrade -v 7", "downgrade -v 7 -y", "upgrade -v 7 --sql"):
            said = run(f"aiflow db {command}", code=NOT_FOUND).stderr
            assert said.startswith(
                "Error: No such version of the database: 7. Known are: base, 0001"
            )


class TestConfiguration:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
        monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        return Served(tmp_path)

    def test_the_source_of_each_option_is_named(
        self, run: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = run.home / "aiflow_server.yaml"
        file.write_text("rpc_host: 0.0.0.0\n")
        monkeypatch.setenv("AIFLOW__SERVER__RPC_PORT", "8")

        shown = run("aiflow config list --sources").stdout

        assert f"# {file}:1\nrpc_host: 0.0.0.0\n" in shown
        assert "# AIFLOW__SERVER__RPC_PORT\nrpc_port: 8\n" in shown
        assert "# default\ntask_executor: Local\n" in shown
        assert yaml.safe_load(shown) == yaml.safe_load(run("aiflow config list").stdout)

    def test_all_files_are_checked(self, run: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(PROJECT_VARIABLE, raising=False)  # of the deployment in this process
        run("aiflow config init")
        said = run("aiflow config validate").stdout.splitlines()
        assert said[0] == f"{run.home / 'aiflow_server.yaml'}: is right"
        assert said[2] == f"{run.home / 'project.yaml'}: does not exist, the defaults hold"

        (run.home / "aiflow_server.yaml").write_text("rpc_prot: 7\n")
        (run.home / "project.yaml").write_text("blob: 7\n")
        wrong = run("aiflow config validate", code=USAGE)
        assert "Did you mean 'rpc_port'?" in wrong.stderr
        assert "project.yaml" in wrong.stderr
        assert wrong.stdout == f"{run.home / 'aiflow_client.yaml'}: is right\n"


class TestBadInput:
    def test_an_unknown_word_is_answered_with_the_nearest(self, deployment: Served) -> None:
        for command, word in (
            ("aiflow workflw list", "'workflow'"),
            ("aiflow workflow lst", "'list'"),
            ("aiflow workflow list --limt 1", "'--limit'"),
            ("notification evnt list", "'event'"),
        ):
            said = deployment(command, code=USAGE).stderr
            assert re.search(rf"Did you mean .*{word}", said), said

    @pytest.mark.parametrize("number", ["one", "0", "1.5", str(10**30), "''"])
    def test_what_is_no_id_is_said_to_be_none(self, number: str, deployment: Served) -> None:
        said = deployment(f"aiflow workflow-execution show {number}", code=USAGE).stderr
        assert said.splitlines()[-1].startswith(
            "Error: Invalid value for 'WORKFLOW_EXECUTION_ID': "
        )

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            ("aiflow workflow show a/b", NOT_FOUND),
            ("aiflow workflow show ''", NOT_FOUND),
            ("aiflow workflow list -n no/where", 0),
            ("aiflow namespace add a/b", USAGE),
            ("aiflow namespace add ''", USAGE),
            ("aiflow workflow-execution start a/../b", NOT_FOUND),
            ("aiflow workflow-schedule add good 'cron@never'", USAGE),
            ("aiflow workflow upload /", USAGE),
            ("aiflow event list k --begin-time yesterday", USAGE),
            ("aiflow event send k v -s nowhere", 6),
            ("aiflow webserver start -d", USAGE),
            ("aiflow webserver stop", USAGE),
            ("aiflow completion tcsh", USAGE),
        ],
    )
    def test_it_is_answered_with_one_sentence_and_an_exit_code(
        self, command: str, code: int, deployment: Served
    ) -> None:
        said = deployment(command, code=code).stderr.splitlines()
        assert len([line for line in said if line.startswith("Error: ")]) == (code != 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell_asks_the_program(shell: str) -> None:
    run = Served(Path())
    for program in ("aiflow", "notification"):
        code = run(f"aiflow completion {shell} --program {program}").stdout
        assert f"_{program.upper()}_COMPLETE={shell}_complete" in code


def test_words_are_completed() -> None:
    done = subprocess.run(
        [PROGRAMS / "aiflow"],
        env={**os.environ, "_AIFLOW_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
        | {"COMP_WORDS": "aiflow workflow-"},
        capture_output=True,
        text=True,
    )
    assert set(done.stdout.split()) == {
        f"plain,workflow-{kind}" for kind in ("execution", "schedule", "snapshot", "trigger")
    }
