"""What is wrong is answered with one sentence (what, why, what next) and the documented code."""

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiflow_core.cli import aiflow

from .servers import PROGRAMS, TwoServers, configure, kill, prepared, processes_of

USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, FAILED = 2, 3, 4, 6, 10


@dataclass(frozen=True)
class Desk:
    """Where a user types."""

    folder: Path
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return Path(self.environment["AIFLOW_HOME"])

    def at(self, **environment: str) -> "Desk":
        return replace(self, environment={**self.environment, **environment})

    def error(self, command: str, expect: int) -> str:
        """The sentence with which the command, in vain, ends with the exit code `expect`."""
        program, *words = shlex.split(command)
        done = subprocess.run(
            [str(PROGRAMS / program), *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return sentence(done.stderr)


def sentence(stderr: str) -> str:
    """The one with which a command ends in vain."""
    assert "Traceback" not in stderr
    assert "bug in AIFlow" not in stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert last.endswith((".", "?")), last
    assert not last.endswith(".."), last
    return last.removeprefix("Error: ")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One of a user who has no servers yet."""
    folder, home, notification_home = (tmp_path / name for name in ("work", "home", "notification"))
    for directory in (folder, home, notification_home):
        directory.mkdir()
    homes = {"AIFLOW_HOME": str(home), "NOTIFICATION_HOME": str(notification_home)}
    yield Desk(folder, {**os.environ, **homes})
    kill(processes_of(home))


@pytest.fixture
def served_desk(desk: Desk, two_servers: TwoServers) -> Desk:
    """One of a user whose servers run."""
    return replace(desk, environment=two_servers.environment)


# --- workflow files ------------------------------------------------------------------------------

HEAD = """\
from aiflow_core import TaskStatus, Workflow
from aiflow_core.specs.operator import Operator
from aiflow_operator_bash.operator import BashOperator
"""

WRONG_FILES = {
    "syntax error": (
        "with Workflow(name='w') as w\n    pass\n",
        "workflow.py:4: SyntaxError: expected ':'. Correct the file and try again.",
    ),
    "no workflow": (
        "x = 1\n",
        "No workflow objects found in workflow.py. "
        "Define one at the top level: `with Workflow(name=...) as workflow:`.",
    ),
    "import error": (
        "import absent_module\n",
        "workflow.py:4: ModuleNotFoundError: No module named 'absent_module'. "
        "Install what is missing where the file is loaded, or add it with --files.",
    ),
    "its own exception": (
        "1 / 0\n",
        "workflow.py:4: ZeroDivisionError: division by zero. Correct the file and try again.",
    ),
    "no task": (
        "with Workflow(name='w') as w:\n    pass\n",
        "Workflow 'w' has no task. Create operators inside its `with` block.",
    ),
    "task outside": (
        "BashOperator(name='a', bash_command=':')\n",
        "workflow.py:4: Task 'a' is created outside of a workflow. "
        "Create it inside `with Workflow(name=...) as workflow:`.",
    ),
    "cycle": (
        "with Workflow(name='w') as w:\n"
        "    a = BashOperator(name='a', bash_command=':')\n"
        "    b = BashOperator(name='b', bash_command=':')\n"
        "    a.start_after(b)\n"
        "    b.start_after(a)\n",
        "These tasks of workflow 'w' wait for one another and can never start: a, b. "
        "Break the cycle: one of them needs to start by itself or by an event.",
    ),
    "two of one name": (
        "with Workflow(name='w') as w:\n"
        "    BashOperator(name='a', bash_command=':')\n"
        "    BashOperator(name='a', bash_command=':')\n",
        "workflow.py:6: Workflow 'w' has two tasks called 'a'. Give one of them another name.",
    ),
    "bad name": (
        "with Workflow(name='w/1') as w:\n    pass\n",
        "workflow.py:4: 'w/1' is not a name for a workflow. Use letters, digits, '_', '-' and '.', "
        "at most 200, and begin with a letter, a digit or '_'.",
    ),
    "unknown option": (
        "with Workflow(name='w') as w:\n    BashOperator(name='a', bash_command=':', retry=1)\n",
        "workflow.py:5: Task 'a' has an unknown option 'retry'. Did you mean 'retries'?",
    ),
    "missing parameter": (
        "with Workflow(name='w') as w:\n    BashOperator(name='a')\n",
        "workflow.py:5: TypeError: BashOperator.__init__() missing 1 required positional argument: "
        "'bash_command'. Correct the file and try again.",
    ),
    "bad time expression": (
        "with Workflow(name='w') as w:\n"
        "    BashOperator(name='a', bash_command=':', periodic_expression='interval0 0 10 0')\n",
        "workflow.py:5: 'interval0 0 10 0' is not a time expression. "
        "Did you mean 'interval@0 0 10 0'?",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_workflow_file_is_not_uploaded(kind: str, desk: Desk) -> None:
    text, expected = WRONG_FILES[kind]
    (desk.folder / "workflow.py").write_text(HEAD + text)

    assert desk.error("aiflow workflow upload workflow.py", USAGE) == expected


@pytest.mark.parametrize("kind", ["syntax error", "cycle", "bad time expression"])
def test_a_wrong_workflow_file_is_not_run(kind: str, desk: Desk) -> None:
    text, expected = WRONG_FILES[kind]
    (desk.folder / "workflow.py").write_text(HEAD + text)

    assert desk.error("aiflow run workflow.py", USAGE) == expected


def test_an_operator_that_is_not_installed_where_tasks_run_fails_its_task(desk: Desk) -> None:
    (desk.folder / "workflow.py").write_text(
        HEAD + "class Bahs(Operator):\n"
        "    def start(self, context):\n        pass\n"
        "    def operator_and_params(self):\n        return 'bahs', {}\n"
        "with Workflow(name='w') as w:\n    Bahs(name='a')\n"
    )

    assert "task 'a' FAILED: No plugin is the operator 'bahs'. Did you mean 'bash'?" in desk.error(
        "aiflow run workflow.py", FAILED
    )


@pytest.mark.parametrize("command", ["aiflow workflow upload", "aiflow run"])
def test_missing_files_are_named(command: str, desk: Desk) -> None:
    assert "absent.py" in desk.error(f"{command} absent.py", USAGE)

    (desk.folder / "workflow.py").write_text(
        HEAD + "with Workflow(name='w') as w:\n    BashOperator(name='a', bash_command=':')\n"
    )
    assert desk.error(f"{command} workflow.py --files absent.txt", USAGE) == (
        "There is no file or directory absent.txt. Check --files."
    )


def test_a_length_of_time_is_written_with_its_unit(desk: Desk) -> None:
    assert desk.error("aiflow run workflow.py --for soon", USAGE) == (
        "Invalid value for '--for': 'soon' is no duration; write for example 500ms, 60s, 2m, 1h "
        "or 7d."
    )


def test_a_goal_is_a_task_and_a_status(desk: Desk) -> None:
    said = desk.error("aiflow run workflow.py --until train=DONE", USAGE)
    assert "'train=DONE' is not TASK=STATUS; the statuses are INIT, QUEUED, RUNNING" in said


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rpc_prot: 1\n", "there is no setting 'rpc_prot'. Did you mean 'rpc_port'?"),
        ("rpc_port: high\n", "rpc_port: expected `int`, got `str`."),
        ("local_executor_parallelism: 0\n", "local_executor_parallelism: expected `int` >= 1."),
        ("- rpc_port\n", "does not consist of `key: value` lines."),
        ("rpc_port: [1\n", "is not YAML: "),
    ],
)
def test_a_wrong_configuration_file_is_named_with_what_is_wrong(
    text: str, expected: str, desk: Desk
) -> None:
    file = desk.home / "aiflow_server.yaml"
    file.write_text(text)

    said = desk.error("aiflow server start", USAGE)
    assert said.startswith(str(file))
    assert expected in said


def test_a_wrong_environment_variable_is_named(desk: Desk) -> None:
    said = desk.at(AIFLOW__SERVER__RPC_PORT="high").error("aiflow config list", USAGE)
    assert said == "AIFLOW__SERVER__RPC_PORT: rpc_port: expected `int`, got `str`."


def test_the_file_of_the_notification_server_is_checked_too(desk: Desk) -> None:
    file = Path(desk.environment["NOTIFICATION_HOME"]) / "notification_server.yaml"
    file.write_text("server_prot: 1\n")

    said = desk.error("notification server start", USAGE)
    assert said == f"{file}:1: there is no setting 'server_prot'. Did you mean 'server_port'?"


# --- databases and ports -------------------------------------------------------------------------

DATABASES = {
    "aiflow": ("AIFLOW_HOME", "aiflow_server.yaml", "metadata_backend_uri", "aiflow.db"),
    "notification": ("NOTIFICATION_HOME", "notification_server.yaml", "db_uri", "ns.db"),
}


@pytest.mark.parametrize("program", DATABASES)
def test_a_server_without_tables_says_how_to_make_them(program: str, desk: Desk) -> None:
    said = desk.error(f"{program} server start -d", USAGE)

    assert f"{program} db init" in said


@pytest.mark.parametrize("program", DATABASES)
def test_a_database_that_is_none_is_named(program: str, desk: Desk) -> None:
    variable, _, _, name = DATABASES[program]
    (Path(desk.environment[variable]) / name).write_text("To whom it may concern: " * 100)

    said = desk.error(f"{program} db init", UNAVAILABLE)
    assert name in said
    assert "not a database" in said


@pytest.mark.parametrize("program", DATABASES)
def test_a_database_that_is_not_there_is_named(program: str, desk: Desk) -> None:
    variable, file, key, _ = DATABASES[program]
    nowhere = f"postgresql://nobody@127.0.0.1:{closed_port()}/nothing"
    (Path(desk.environment[variable]) / file).write_text(f"{key}: {nowhere}\n")

    said = desk.error(f"{program} server start -d", UNAVAILABLE)
    assert "127.0.0.1" in said


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("program", DATABASES)
def test_a_port_that_is_in_use_is_named(program: str, tmp_path: Path) -> None:
    servers = prepared(tmp_path / "second")
    desk = Desk(tmp_path, servers.environment)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        if program == "aiflow":
            configure(servers.home / "aiflow_server.yaml", rpc_port=port)
            servers.run("notification server start -d")
        else:
            configure(servers.notification_home / "notification_server.yaml", server_port=port)
        try:
            said = desk.error(f"{program} server start -d", CONFLICT)
        finally:
            kill(processes_of(servers.home))

    assert re.search(
        rf"[Pp]ort {port} .*is in use\. Stop .* or .* another `?(rpc|server)_port", said
    )


# --- things that do not exist, or not so ---------------------------------------------------------


def test_a_server_that_is_down_is_named_with_how_to_start_it(desk: Desk) -> None:
    (desk.home / "aiflow_client.yaml").write_text(f"server_address: 127.0.0.1:{closed_port()}\n")

    said = desk.error("aiflow workflow list", UNAVAILABLE)
    assert "does not answer. Start it with `aiflow server start -d`" in said


@pytest.mark.parametrize("program", DATABASES)
def test_a_server_that_does_not_run_cannot_be_stopped(program: str, desk: Desk) -> None:
    assert "PID file of" in desk.error(f"{program} server stop", NOT_FOUND)


@pytest.mark.parametrize(
    "command",
    [
        *(f"workflow {verb} absent" for verb in ("show", "enable", "disable", "delete")),
        *(f"workflow-execution {verb} absent" for verb in ("start", "stop-all", "list")),
        *(f"workflow-execution {verb} 987654" for verb in ("show", "stop", "delete")),
        *(f"task-execution {verb} 987654" for verb in ("show", "list")),
        *(f"task-execution {verb} 987654 task" for verb in ("start", "stop")),
        "workflow-schedule add absent 'interval@0 0 1 0'",
        *(f"workflow-schedule {verb} absent" for verb in ("list", "delete-all")),
        *(f"workflow-schedule {verb} 987654" for verb in ("show", "pause", "resume", "delete")),
        *(f"workflow-trigger {verb} absent" for verb in ("list", "delete-all")),
        *(f"workflow-trigger {verb} 987654" for verb in ("show", "pause", "resume", "delete")),
        *(f"event dead {verb} 987654" for verb in ("show", "redrive", "drop")),
        "event dead drop 987654 --consumer somebody",
        "namespace delete absent",
        "config get-value absent",
    ],
)
def test_what_does_not_exist_is_named(command: str, served_desk: Desk) -> None:
    # In this process: to start so many interpreters would take long and tell nothing more.
    words = shlex.split(command)
    yes = ["-y"] if {"delete", "delete-all", "drop"} & set(words) else []
    done = CliRunner(env=served_desk.environment).invoke(aiflow, [*words, *yes])

    assert done.exit_code == NOT_FOUND
    said = sentence(done.stderr)
    assert said.startswith("No such ")
    assert "absent" in said or "987654" in said


def test_an_id_is_a_number(served_desk: Desk) -> None:
    said = served_desk.error("aiflow workflow-execution show first", USAGE)
    assert said == "Invalid value for 'WORKFLOW_EXECUTION_ID': 'first' is not a valid integer."


@pytest.mark.parametrize("verb", ["redrive", "drop"])
@pytest.mark.parametrize("words", ["", "1 --all", "--all --consumer somebody"])
def test_which_dead_letters_are_meant_is_said_in_one_way(verb: str, words: str, desk: Desk) -> None:
    said = desk.error(f"aiflow event dead {verb} {words}", USAGE)
    assert said == "Give either the OFFSET of an event, or --all."


def test_a_disabled_workflow_does_not_start(served_desk: Desk, two_servers: TwoServers) -> None:
    file = served_desk.folder / "workflow.py"
    file.write_text(
        HEAD + "with Workflow(name='disabled') as w:\n"
        "    BashOperator(name='a', bash_command=':')\n"
    )
    two_servers.upload(file)
    two_servers.run("aiflow workflow disable disabled")

    said = served_desk.error("aiflow workflow-execution start disabled", CONFLICT)
    assert "disabled" in said
    assert "aiflow workflow enable" in said


def test_a_namespace_is_added_once_and_not_deleted_with_workflows(
    served_desk: Desk, two_servers: TwoServers
) -> None:
    assert "default" in served_desk.error("aiflow namespace add default", CONFLICT)

    file = served_desk.folder / "workflow.py"
    file.write_text(
        HEAD + "with Workflow(name='kept') as w:\n    BashOperator(name='a', bash_command=':')\n"
    )
    two_servers.upload(file)
    assert "default" in served_desk.error("aiflow namespace delete default --yes", CONFLICT)
