"""The `aiflow` command, before a deployment whose servers run in this process."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from aiflow_core import __version__, remote
from aiflow_core.cli import aiflow
from aiflow_core.plugins import make

from .served import served

WORKFLOW_FILE = """
from aiflow_core import TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="{name}", namespace="{namespace}") as workflow:
    first = BashOperator(name="first", bash_command="cat word.txt 2>/dev/null || true")
    second = BashOperator(name="second", bash_command="{second}")
    second.start_after(first)
"""

SECONDS = 60


@dataclass(frozen=True)
class Shell:
    """Runs `aiflow` in this process."""

    directory: Path

    def __call__(self, *words: object, code: int = 0) -> Result:
        result = CliRunner().invoke(aiflow, [str(word) for word in words], prog_name="aiflow")
        shown = f"{words}\n{result.stdout}\n{result.stderr}"
        assert result.exit_code == code, shown
        return result

    def says(self, *words: object) -> str:
        """The one line that the command prints."""
        return self(*words).stdout.removesuffix("\n")

    def fails(self, code: int, *words: object) -> str:
        """What the command says on the standard error, and nothing on the other."""
        result = self(*words, code=code)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return result.stderr.removesuffix("\n")

    def rows(self, *words: object) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self(*words, "-o", "json").stdout)
        return rows

    def upload(self, name: str, second: str = "true", namespace: str = "default") -> None:
        file = self.directory / f"{name}.py"
        file.write_text(WORKFLOW_FILE.format(name=name, second=second, namespace=namespace))
        said = self.says("workflow", "upload", file)
        assert said == f"Workflow: {namespace}.{name}, submitted."

    def start(self, name: str) -> int:
        said = self.says("workflow-execution", "start", name)
        found = re.fullmatch(r"Workflow execution: (\d+) submitted\.", said)
        assert found
        return int(found[1])

    def execution(self, number: int) -> dict[str, Any]:
        (row,) = self.rows("workflow-execution", "show", number)
        return row

    def ended(self, number: int, until: Callable[[], None]) -> dict[str, Any]:
        while (row := self.execution(number))["end_date"] is None:
            until()
        return row


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a deployment whose two servers run in this process."""
    with served(tmp_path_factory.mktemp("aiflow")) as running:
        yield running.home


@pytest.fixture
def shell(deployment: Path, tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def pause() -> Callable[[], None]:
    """A moment between two looks; fails when there were too many."""
    import threading

    looks = iter(range(SECONDS * 20))

    def moment() -> None:
        assert next(looks, None) is not None, f"not within {SECONDS} s"
        threading.Event().wait(0.05)

    return moment


class TestWithoutAServer:
    @pytest.fixture
    def shell(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
        monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
        return Shell(tmp_path)

    def test_help_and_version_import_nothing_that_is_heavy(self) -> None:
        code = """
import sys
from aiflow_core.cli import aiflow
aiflow(sys.argv[1:], standalone_mode=False)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(name for name in loaded if name.startswith("aiflow_") and name != "aiflow_core"))
print(sorted(loaded & {"msgspec", "rich", "yaml", "grpc", "sqlalchemy", "stevedore", "pluggy"}))
print(sorted(name for name in sys.modules if name.startswith("aiflow_core.model")))
"""
        for words in (["--help"], ["version"]):
            command = [sys.executable, "-c", code, *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.stdout.splitlines()[-3:] == ["[]", "[]", "[]"], done.stdout + done.stderr

    def test_help_knows_the_commands_of_plugins(self, shell: Shell) -> None:
        shown = shell("--help").stdout

        for command in ("config", "db", "server", "event", "workflow-execution"):
            assert re.search(rf"^  {command} ", shown, re.MULTILINE), command

    @pytest.mark.parametrize("command", aiflow.list_commands(None))  # type: ignore[arg-type]
    def test_every_command_has_its_help(self, shell: Shell, command: str) -> None:
        assert f"Usage: aiflow {command}" in shell(command, "--help").stdout

    def test_version(self, shell: Shell) -> None:
        assert shell.says("version") == __version__

    def test_an_unknown_command_is_a_usage_error(self, shell: Shell) -> None:
        assert "No such command" in shell.fails(2, "workflows")
        assert "is not a valid integer" in shell.fails(2, "task-execution", "list", "one")

    def test_plugins_are_listed_with_their_origin(self, shell: Shell) -> None:
        rows = shell.rows("plugins", "list")

        assert {
            "kind": "endpoint",
            "name": "rpc",
            "version": __version__,
            "origin": "aiflow-server",
            "api": ">=1,<2",
            "state": "lazy",
            "problem": "",
        } in rows

    def test_configuration_is_written_once_and_shown(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        created = shell("config", "init").stdout.splitlines()
        assert created == [
            f"Creating new AIFlow config file in: {home / name}"
            for name in ("aiflow_server.yaml", "aiflow_client.yaml")
        ]

        (home / "aiflow_server.yaml").write_text("rpc_port: 7\n")
        again = shell("config", "init")
        assert again.stdout == ""
        assert "exists already" in again.stderr

        assert shell.says("config", "get-value", "rpc_port") == "7"
        assert shell.says("config", "get-value", "log_dir") == f"{home}/logs"
        monkeypatch.setenv("AIFLOW__SERVER__RPC_PORT", "8")
        shown = yaml.safe_load(shell("config", "list").stdout)
        assert shown["rpc_port"] == 8
        assert shown["blob_manager"]["type"] == "local"
        assert "Did you mean 'rpc_port'?" in shell.fails(3, "config", "get-value", "rpc_prot")

    def test_a_wrong_setting_is_one_sentence(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "aiflow_server.yaml").write_text("rpc_prot: 7\n")

        said = shell.fails(2, "config", "list")

        assert said.startswith("Error: ")
        assert said.endswith("Did you mean 'rpc_port'?")

    def test_a_server_that_is_away_is_said_to_be(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIFLOW__CLIENT__SERVER_ADDRESS", "127.0.0.1:1")

        said = shell.fails(6, "workflow", "list")

        assert "The AIFlow server at 127.0.0.1:1 does not answer." in said
        assert "aiflow server start -d" in said

    def test_a_server_that_does_not_run_is_not_stopped(self, shell: Shell, tmp_path: Path) -> None:
        pid_file = tmp_path / "home" / "aiflow_server.pid"

        assert shell.fails(3, "server", "stop") == (
            f"Error: PID file of AIFlow server does not exist at {pid_file}."
        )
        assert shell("server", "status", code=3).stdout == "The AIFlow server is not running.\n"

    def test_a_server_without_a_database_says_how_to_make_one(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ExitStack() as stack:
            events = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{tmp_path / 'ns.db'}"})
            stack.callback(events.close)
            events.initialize()
            address = make("aiflow.endpoint", "notification", {"port": 0}).start(
                stack, events, None
            )
            monkeypatch.setenv("AIFLOW__SERVER__NOTIFICATION_SERVER_URI", address)
            (tmp_path / "home").mkdir()

            started = shell("server", "start", "-d", code=2)

        assert "Starting AIFlow Server in daemon mode" in started.stdout
        assert "Run `aiflow db init`." in started.stderr

    def test_the_database_is_made_reset_and_taken_back(self, shell: Shell, tmp_path: Path) -> None:
        home = tmp_path / "home"
        shell("db", "init")
        shell("db", "upgrade")
        assert (home / "aiflow.db").exists()

        (home / "run" / "1").mkdir(parents=True)
        shell("db", "reset", "-y")
        assert not (home / "run").exists()

        said = shell.fails(2, "db", "reset")
        assert "This will drop existing tables if they exist. Proceed?" in said
        assert said.endswith("the standard input is no terminal. Say yes with -y.")

        shell("db", "downgrade", "-v", "base", "-y")
        shell("db", "init")

    def test_what_nobody_expected_is_called_a_bug(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise ZeroDivisionError("by zero")

        monkeypatch.setattr(remote, "server", fail)

        said = shell.fails(70, "workflow", "list")
        assert said.startswith("This is a bug in AIFlow: ZeroDivisionError: by zero.")
        assert "--debug" in said
        assert "Traceback" in shell("--debug", "workflow", "list", code=70).stderr


def test_a_workflow_from_its_upload_to_its_deletion(
    shell: Shell, pause: Callable[[], None], deployment: Path
) -> None:
    shell.upload("life")
    (row,) = (r for r in shell.rows("workflow", "list") if r["workflow_name"] == "life")
    assert list(row) == [
        *("id", "workflow_name", "namespace", "create_time", "update_time", "is_enabled"),
        "event_offset",
    ]
    assert row["is_enabled"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["create_time"])

    execution = shell.start("life")
    ended = shell.ended(execution, pause)
    assert list(ended) == [
        *("id", "workflow_id", "begin_date", "end_date", "status", "run_type", "snapshot_id"),
        *("event_offset", "reason"),
    ]
    assert (ended["status"], ended["run_type"]) == ("SUCCESS", "MANUAL")
    assert [ended] == shell.rows("workflow-execution", "list", "life")

    tasks = shell.rows("task-execution", "list", execution)
    assert [(t["task_name"], t["status"]) for t in tasks] == [
        ("first", "SUCCESS"),
        ("second", "SUCCESS"),
    ]
    assert list(tasks[0]) == [
        *("id", "workflow_execution_id", "task_name", "sequence_number", "try_number"),
        *("begin_date", "end_date", "status", "reason"),
    ]
    assert shell.rows("task-execution", "show", tasks[0]["id"]) == tasks[:1]

    assert shell.says("workflow", "disable", "life") == "Workflow: default.life disabled."
    assert "disabled" in shell.fails(4, "workflow-execution", "start", "life")
    assert shell.says("workflow", "enable", "life") == "Workflow: default.life enabled."
    assert shell.says("workflow-execution", "delete", execution, "-y") == (
        f"Workflow execution: {execution} deleted."
    )
    assert shell.fails(3, "workflow-execution", "show", execution) == (
        f"Error: No such workflow execution: {execution}."
    )
    assert shell.says("workflow", "delete", "life", "-y") == "Workflow: default.life deleted."
    assert shell.fails(3, "workflow", "show", "life") == "Error: No such workflow: default.life."


def test_files_go_along_with_a_workflow(
    shell: Shell, pause: Callable[[], None], deployment: Path
) -> None:
    (shell.directory / "word.txt").write_text("abracadabra")
    file = shell.directory / "along.py"
    file.write_text(WORKFLOW_FILE.format(name="along", second="true", namespace="default"))

    shell("workflow", "upload", file, "--files", shell.directory / "word.txt")
    shell.ended(shell.start("along"), pause)

    assert any(
        "abracadabra" in log.read_text() for log in deployment.glob("logs/along/*/first/*.log")
    )


def test_the_details_of_a_workflow_are_shown(shell: Shell) -> None:
    shell.upload("detailed")

    (details,) = shell.rows("workflow", "show", "detailed")

    assert details["tasks"] == ["first", "second"]
    assert details["rules"]["second"][0]["condition"]["statuses"] == {"first": "SUCCESS"}
    assert list(details)[-4:] == ["content", "config", "tasks", "rules"]


def test_running_things_are_stopped(shell: Shell, pause: Callable[[], None]) -> None:
    shell.upload("long", second="sleep 600")
    execution, other = shell.start("long"), shell.start("long")

    def status(task: str) -> str:
        tasks = shell.rows("task-execution", "list", execution)
        return next((t["status"] for t in tasks if t["task_name"] == task), "")

    while status("second") != "RUNNING":
        pause()
    shell.fails(4, "workflow", "delete", "long", "-y")
    assert shell.says("task-execution", "start", execution, "first") == (
        f"Task execution: {execution}_first_2 submitted."
    )
    assert shell.says("task-execution", "stop", execution, "second") == (
        f"Stopping execution of task: second of workflow execution: {execution}."
    )
    while status("second") != "STOPPED":
        pause()
    assert shell.says("workflow-execution", "stop", other) == (
        f"Stopping workflow execution: {other}"
    )
    assert shell.ended(other, pause)["status"] == "STOPPED"
    assert shell.says("workflow-execution", "stop-all", "long", "-y") == (
        "Stopping all workflow executions of workflow: default.long"
    )
    shell.ended(execution, pause)
    assert "zzz" in shell.fails(3, "task-execution", "start", shell.start("long"), "zzz")
    shell("workflow-execution", "stop-all", "long")


def test_an_upload_that_cannot_be_is_one_sentence(shell: Shell) -> None:
    file = shell.directory / "broken.py"

    file.write_text("import aiflow_core\n1 / 0\n")
    assert "broken.py:2: ZeroDivisionError" in shell.fails(2, "workflow", "upload", file)
    file.write_text("x = 1\n")
    assert "No workflow objects found in" in shell.fails(2, "workflow", "upload", file)
    shell.fails(2, "workflow", "upload", shell.directory / "missing.py")


def test_a_schedule_from_its_creation_to_its_deletion(shell: Shell) -> None:
    shell.upload("scheduled")
    said = shell.says("workflow-schedule", "add", "scheduled", "cron@0 0 1 1 *")
    number = int(re.fullmatch(r"Workflow schedule: (\d+) created\.", said)[1])  # type: ignore[index]

    (row,) = shell.rows("workflow-schedule", "list", "scheduled")
    assert list(row) == ["id", "workflow_id", "expression", "create_time", "is_paused"]
    assert row["expression"] == "cron@0 0 1 1 *"
    assert shell.says("workflow-schedule", "pause", number) == (
        f"Workflow schedule: {number} paused."
    )
    assert shell.rows("workflow-schedule", "show", number)[0]["is_paused"] is True
    assert shell.says("workflow-schedule", "resume", number) == (
        f"Workflow schedule: {number} resumed."
    )
    assert shell.says("workflow-schedule", "delete", number, "-y") == (
        f"Workflow schedule: {number} deleted."
    )
    assert shell.fails(3, "workflow-schedule", "show", number) == (
        f"Error: No such workflow schedule: {number}."
    )
    assert shell.says("workflow-schedule", "delete-all", "scheduled", "-y") == (
        "All schedules of workflow: default.scheduled deleted."
    )
    assert "Did you mean 'interval@0 0 10 0'?" in shell.fails(
        2, "workflow-schedule", "add", "scheduled", "interval0 0 10 0"
    )


def test_a_trigger_from_its_creation_to_its_deletion(shell: Shell) -> None:
    from aiflow_core import SingleEventCondition, WorkflowRule, ops

    shell.upload("triggered")
    trigger = ops.add_workflow_trigger(WorkflowRule(SingleEventCondition("go")), "triggered")

    (row,) = shell.rows("workflow-trigger", "list", "triggered")
    assert list(row) == ["id", "workflow_id", "rule", "create_time", "is_paused"]
    assert row["rule"] == {"type": "event", "expect_event_key": "go"}
    assert shell.says("workflow-trigger", "pause", trigger.id) == (
        f"Workflow trigger: {trigger.id} paused."
    )
    assert ops.get_workflow_trigger(trigger.id).is_paused
    shell("workflow-trigger", "resume", trigger.id)
    assert not ops.get_workflow_trigger(trigger.id).is_paused
    shell("workflow-trigger", "delete", trigger.id, "-y")
    assert shell.says("workflow-trigger", "delete-all", "triggered", "-y") == (
        "All triggers of workflow: default.triggered deleted."
    )
    assert ops.list_workflow_triggers("triggered") == []


def test_a_namespace_from_its_creation_to_its_deletion(shell: Shell) -> None:
    properties = '{"team": "vision"}'
    assert shell.says("namespace", "add", "lab", "--properties", properties) == (
        "Namespace: lab, created."
    )
    assert shell.fails(4, "namespace", "add", "lab") == "Error: Namespace: lab already exists."
    assert {"name": "lab", "properties": {"team": "vision"}} in shell.rows("namespace", "list")
    assert "JSON" in shell.fails(2, "namespace", "add", "other", "--properties", "{")
    assert "JSON object" in shell.fails(2, "namespace", "add", "other", "--properties", "[]")

    shell.upload("inside", namespace="lab")
    assert [r["workflow_name"] for r in shell.rows("workflow", "list", "-n", "lab")] == ["inside"]
    shell.fails(4, "namespace", "delete", "lab", "-y")
    shell("workflow", "delete", "inside", "--namespace", "lab", "-y")
    assert shell.says("namespace", "delete", "lab", "--yes") == "Namespace: lab, deleted."


FAULTY_FILE = """
from pathlib import Path
from aiflow_core import Condition, TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator

class Ready(Condition):
    def is_met(self, event, context):
        return Path({marker!r}).read_text() == "ready"

with Workflow(name="faulty") as workflow:
    task = BashOperator(name="task", bash_command="true")
    task.action_on_condition(TaskAction.START, Ready(["poison"]))
"""


def test_a_dead_letter_from_the_failure_to_its_end(
    shell: Shell, pause: Callable[[], None], tmp_path: Path
) -> None:
    marker, file = tmp_path / "marker", tmp_path / "faulty.py"
    file.write_text(FAULTY_FILE.format(marker=str(marker)))
    shell("workflow", "upload", file)
    execution = shell.start("faulty")
    server = os.environ["AIFLOW__SERVER__NOTIFICATION_SERVER_URI"]
    shell("event", "send", "poison", "x", "--server-uri", server)

    def letters() -> list[dict[str, Any]]:
        return shell.rows("event", "dead", "list")

    while not letters():
        pause()
    (letter,) = letters()
    offset = letter["offset"]
    assert list(letter) == ["offset", "consumer", "error", "tries", "create_time"]
    assert (letter["consumer"], letter["tries"]) == ("evaluation 1: task task, rule 1", 3)
    assert letter["error"].startswith("FileNotFoundError")
    (shown,) = shell.rows("event", "dead", "show", offset)
    assert (shown["event"]["key"], shown["event"]["offset"]) == ("poison", offset)

    assert shell.says("event", "dead", "redrive", offset) == f"Dead letter: {offset} redriven."
    while not letters():
        pause()
    marker.write_text("ready")
    assert shell.says("event", "dead", "redrive", "--all") == "Dead letters redriven: 1"
    while not shell.rows("task-execution", "list", execution):
        pause()
    assert letters() == []

    marker.unlink()
    for _ in range(2):
        shell("event", "send", "poison", "x", "--server-uri", server)
    while len(letters()) < 2:
        pause()
    first, second = (letter["offset"] for letter in letters())
    shell("workflow-execution", "stop", execution)
    assert "is not running any more" in shell.fails(4, "event", "dead", "redrive", first)
    assert shell.says("event", "dead", "redrive", "--all") == "Dead letters redriven: 0"
    assert shell.says("event", "dead", "drop", first, "-y") == f"Dead letter: {first} dropped."
    assert [letter["offset"] for letter in letters()] == [second]
    assert shell.says("event", "dead", "drop", "--all", "-y") == "Dead letters dropped: 1"
    assert shell.fails(3, "event", "dead", "show", second) == (
        f"Error: No such dead letter: {second}."
    )
    shell("workflow-execution", "stop-all", "faulty", "-y")


def test_a_group_of_core_and_plugin_has_the_commands_of_both(shell: Shell) -> None:
    shown = shell("event", "--help").stdout

    for command in ("send", "listen", "dead"):
        assert re.search(rf"^  {command} ", shown, re.MULTILINE), command


class TestOutput:
    def test_nothing_is_said_to_be_nothing(self, shell: Shell) -> None:
        shell("namespace", "add", "empty")

        for output in ("table", "plain"):
            said = shell.says("workflow", "list", "-n", "empty", "-o", output)
            assert said == "No data found"
        assert json.loads(shell("workflow", "list", "-n", "empty", "-o", "json").stdout) == []
        assert yaml.safe_load(shell("workflow", "list", "-n", "empty", "-o", "yaml").stdout) == []

    def test_the_same_in_every_format(self, shell: Shell) -> None:
        shell("namespace", "add", "formats", "--properties", '{"größe": 3}')
        names = ("namespace", "list", "-o")

        row = {"name": "formats", "properties": {"größe": 3}}
        assert row in json.loads(shell(*names, "json").stdout)
        assert row in yaml.safe_load(shell(*names, "yaml").stdout)
        plain = shell(*names, "plain").stdout
        assert re.search(r'^formats +\{"größe": 3\}$', plain, re.MULTILINE)
        table = shell(*names, "table").stdout
        assert re.search(r'^│ formats +│ \{"größe": 3\} +│$', table, re.MULTILINE)

    def test_a_table_that_nobody_watches_is_as_wide_as_it_must_be(self, shell: Shell) -> None:
        shell.upload("wide")
        table = shell("workflow", "list").stdout

        assert "workflow_name" in table
        assert "…" not in table
        assert any("wide" in line and "default" in line for line in table.splitlines())

    def test_a_table_too_wide_for_the_terminal_becomes_a_list_of_records(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell.upload("narrow")
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")

        shown = shell("workflow", "list").stdout

        assert max(map(len, shown.splitlines())) < 80
        assert re.search(r"^workflow_name +narrow$", shown, re.MULTILINE)

    def test_times_are_utc(self, shell: Shell) -> None:
        shell.upload("timed")
        (row,) = (r for r in shell.rows("workflow", "list") if r["workflow_name"] == "timed")

        moment = datetime.fromisoformat(row["create_time"])

        assert abs((datetime.now(moment.tzinfo) - moment).total_seconds()) < SECONDS


def test_db_usage_tells_what_tables_logs_and_blobs_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    CliRunner().invoke(aiflow, ["db", "init"])
    (tmp_path / "logs" / "wf").mkdir(parents=True)
    (tmp_path / "logs" / "wf" / "1.log").write_text("x" * 100)
    (tmp_path / "blob").mkdir()
    (tmp_path / "blob" / "code.zip").write_text("x" * 10)

    done = CliRunner().invoke(aiflow, ["db", "usage", "-o", "json"])

    assert done.exit_code == 0, done.output
    found = {row["what"]: row for row in json.loads(done.stdout)}
    assert found["table namespace"]["count"] == 1
    assert found["table namespace"]["bytes"] > 0
    assert found[f"logs in {tmp_path}/logs"]["bytes"] == 100
    assert found[f"blobs in {tmp_path}/blob"] == {
        "what": f"blobs in {tmp_path}/blob",
        "count": 1,
        "bytes": 10,
    }
