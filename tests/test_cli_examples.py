"""The help of every command, and its examples, each of which is executed as it stands there."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import commands, context_of, groups
from .served import Served, served
from .servers import PROGRAMS, TwoServers, kill, processes_of, until, use_free_ports

COMMANDS = commands()
SERVERS = ("notification server", "aiflow server")
# Of those that need no server, some must not find one.
WITHOUT_SERVER = ("aiflow", "aiflow config", "aiflow db", "notification", "notification config")
WITHOUT_SERVER += ("notification db",)

SHORT = "true"
LONG = "sleep 600"
QUICKSTART = """
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="quickstart") as workflow:
    BashOperator(name="greet", bash_command="cat words.txt || echo hello")
    BashOperator(name="listen", bash_command="{listen}")
"""
INSIDE = """
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="inside", namespace="lab") as workflow:
    BashOperator(name="only", bash_command="true")
"""
FAULTY = """
from aiflow_core import Condition, TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator

class Faulty(Condition):
    def is_met(self, event, context):
        raise ValueError(event.value)

with Workflow(name="faulty") as workflow:
    train = BashOperator(name="train", bash_command="true")
    train.action_on_condition(TaskAction.START, Faulty(["poison"]))
"""

UPLOADED = ["aiflow namespace add lab", "aiflow workflow upload inside.py"]
UPLOADED += ["aiflow workflow upload quickstart.py"]

# What is done before the examples of a group.
BEFORE = {
    "aiflow namespace": [],
    "aiflow config": ["aiflow config init"],
    "aiflow db": ["aiflow db init"],
    "notification config": ["notification config init"],
    "notification db": ["notification db init"],
    "aiflow event": ["aiflow event send data_ready first"],
    "aiflow explain": [*UPLOADED, "aiflow workflow-execution start quickstart --wait"],
    "aiflow workflow-snapshot": [
        *["aiflow workflow upload quickstart.py"] * 3,
        *UPLOADED[:2],
    ],
    "aiflow workflow-schedule": [
        *UPLOADED,
        *["aiflow workflow-schedule add quickstart 'cron@0 0 1 1 *'"] * 2,
    ],
    "aiflow workflow-trigger": [
        *UPLOADED,
        *["aiflow workflow-trigger add quickstart --event data_ready"] * 2,
    ],
}


def group_of(words: str) -> str:
    return words.rpartition(" ")[0]


def examples_of(group: str) -> list[str]:
    """The examples of the commands of a group; what takes something away comes last."""
    inside = [words for words in COMMANDS if group_of(words) == group]
    inside.sort(key=lambda words: words.rpartition(" ")[2].startswith(("delete", "drop", "reset")))
    return [line for words in inside for line in getattr(COMMANDS[words], "examples", ())]


# --- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS)
def test_the_help_is_a_sentence_arguments_options_and_two_examples(words: str) -> None:
    command = COMMANDS[words]

    sentence, _, _ = (command.help or "").partition("\n\n")
    assert re.fullmatch(r"[A-Z][^.]*(\.[a-z][^.]*)*\.", " ".join(sentence.split())), sentence
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{words}: {parameter.name} has no help"
    examples = getattr(command, "examples", ())
    assert len(examples) >= 2
    assert len(set(examples)) == len(examples)
    # The commands of `notification event` are those of `aiflow event`.
    own = words.replace("notification event", "aiflow event")
    assert all(line == own or line.startswith(f"{own} ") for line in examples)


@pytest.mark.parametrize("words", groups())
def test_every_group_says_what_it_is_for(words: str) -> None:
    assert (groups()[words].help or "").partition("\n")[0].endswith(".")


def test_the_help_shows_the_examples_as_they_are_typed() -> None:
    words = "aiflow workflow-schedule add"
    shown = COMMANDS[words].get_help(context_of(words, COMMANDS[words]))

    assert "\n  aiflow workflow-schedule add quickstart 'cron@0 6 * * *'\n" in shown


# --- examples ----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the files that examples name."""
    (tmp_path / "quickstart.py").write_text(QUICKSTART.format(listen=SHORT))
    (tmp_path / "inside.py").write_text(INSIDE)
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "words.txt").write_text("hello\n")
    (tmp_path / "events.jsonl").write_text('{"at": "5m", "key": "data_ready"}\n')
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def deployment(files: Path) -> Iterator[Served]:
    with served(files) as running:
        yield running
        running("aiflow workflow-execution stop-all quickstart --yes --wait", code=None)


SPECIAL = ("aiflow workflow-execution", "aiflow task-execution", "aiflow event dead", *SERVERS)
SPECIAL += ("notification event",)  # the same as `aiflow event`
PLAIN = sorted({group_of(words) for words in COMMANDS} - {*SPECIAL, *WITHOUT_SERVER})


@pytest.mark.parametrize("group", PLAIN)
def test_examples(group: str, deployment: Served) -> None:
    for line in [*BEFORE.get(group, UPLOADED), *examples_of(group)]:
        deployment(line)


def test_examples_of_workflow_executions(deployment: Served) -> None:
    upload_long(deployment)
    for _ in range(2):
        deployment("aiflow workflow-execution start quickstart")
    # What runs stays on what it has begun with.
    upload_short(deployment)
    deployment("aiflow workflow-execution start quickstart --wait")

    for line in examples_of("aiflow workflow-execution"):
        deployment(line)


def test_examples_of_task_executions(deployment: Served) -> None:
    upload_long(deployment)
    for execution in (1, 2):
        deployment("aiflow workflow-execution start quickstart")
        until(lambda number=execution: statuses(deployment, number) == ["SUCCESS", "RUNNING"])

    for line in examples_of("aiflow task-execution"):
        deployment(line)


def test_examples_of_dead_letters(deployment: Served) -> None:
    deployment("aiflow workflow upload faulty.py")
    deployment("aiflow workflow-execution start faulty")
    # The events that tell of its start are in the log by then.
    until(lambda: deployment("aiflow event count 'workflow_status.*'").stdout == "1\n")
    deployment("aiflow event send poison x")

    for line in examples_of("aiflow event dead"):
        if "drop" not in line:
            until(lambda: "[]" not in deployment("aiflow event dead list -o json").stdout)
        deployment(line)
    deployment("aiflow workflow-execution stop-all faulty --yes --wait")


@pytest.mark.parametrize("group", WITHOUT_SERVER)
def test_examples_without_a_server(
    group: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(files / "home"))
    monkeypatch.setenv("NOTIFICATION_HOME", str(files / "home"))
    monkeypatch.chdir(files)
    run = Served(files)
    for line in [*BEFORE.get(group, []), *examples_of(group)]:
        if line.startswith("aiflow run"):
            continue  # a process of its own, see below
        run(line)


def test_examples_of_run(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(files / "home"))
    for line in COMMANDS["aiflow run"].examples:  # type: ignore[attr-defined]
        done = process(line, files).communicate(timeout=90)[0]
        assert "[greet] hello" in done
        assert "quickstart: SUCCESS" in done or "--until" in line


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoServers]:
    """Servers that are set up, and do not run yet."""
    home, notification_home = tmp_path / "aiflow", tmp_path / "notification"
    monkeypatch.setenv("AIFLOW_HOME", str(home))
    monkeypatch.setenv("NOTIFICATION_HOME", str(notification_home))
    run = Served(tmp_path)
    for program in ("notification", "aiflow"):
        run(f"{program} config init")
    use_free_ports(notification_home, home)
    for program in ("notification", "aiflow"):
        run(f"{program} db init")
    yield TwoServers(home, notification_home, {**os.environ})
    kill(processes_of(home))


def test_examples_of_servers(installed: TwoServers) -> None:
    for group in SERVERS:
        in_background, in_foreground = f"{group} start -d", f"{group} start"
        lines = examples_of(group)
        assert {in_background, in_foreground, f"{group} status", f"{group} stop"} <= {*lines}
        for line in lines:
            if line.endswith("--help"):
                Served(installed.home)(line)
        serving = process(in_foreground, installed.home, installed.environment)
        assert serving.stdout is not None
        assert "started at" in serving.stdout.readline()
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)
        assert serving.returncode == 0
        installed.run(in_background)
        installed.run(f"{group} status")
    for group in reversed(SERVERS):
        installed.run(f"{group} stop")


def process(
    line: str, directory: Path, environment: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    program, *words = shlex.split(line)
    return subprocess.Popen(
        [str(PROGRAMS / program), *words],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def upload_long(deployment: Served) -> None:
    """Let executions go on until they are stopped."""
    file = deployment.home / "quickstart.py"
    file.write_text(QUICKSTART.format(listen=LONG))
    deployment("aiflow workflow upload quickstart.py")


def upload_short(deployment: Served) -> None:
    """Let executions end by themselves."""
    file = deployment.home / "quickstart.py"
    file.write_text(QUICKSTART.format(listen=SHORT))
    deployment("aiflow workflow upload quickstart.py")


def statuses(deployment: Served, execution: int) -> list[str]:
    shown = deployment(f"aiflow task-execution list {execution} -o plain --fields status")
    return shown.stdout.split()[1:]
