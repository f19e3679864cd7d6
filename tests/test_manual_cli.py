"""Every command and option of the AIFlow 0.4 manual is there, and does what it should.

`tests/manual/cli.yaml` is what the manual's chapter on the command line says. Each command is run
as it is, and once with each spelling of each of its options.
"""

import os
import shlex
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from aiflow_core import SingleEventCondition, WorkflowRule, ops

from .commands import PROGRAMS
from .served import Served, served
from .servers import until

FACTS = yaml.safe_load((Path(__file__).parent / "manual/cli.yaml").read_text())
MANUAL: dict[str, Any] = FACTS["commands"]

FILE = """
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

for namespace in ("default", "lab"):
    with Workflow(name="{name}", namespace=namespace) as workflow:
        BashOperator(name="greet", bash_command="sleep {seconds}")
    globals()[namespace] = workflow
"""

OPTION_VALUES = {
    "NAMESPACE": "lab",
    "VERSION": "heads",
    "PROPERTIES": """'{"team": "vision"}'""",
    "FILES": "words.txt,data",
    "BEGIN_OFFSET": "0",
    "BEGIN_TIME": "2024-05-01T12:00:00",
    "SENDER": "somebody",
    "CONTEXT": "anything",
    "SERVER_URI": "$AIFLOW__SERVER__NOTIFICATION_SERVER_URI",
}

USAGE, TIMEOUT = 2, 7
# They ask, and nobody is there to answer.
ASKING = [w for w in MANUAL if w.rpartition(" ")[2] in ("delete", "delete-all", "reset")]
# Processes of their own: `test_cli_examples.test_examples_of_servers` runs these.
SERVERS = [f"{p} server {c}" for p in ("aiflow", "notification") for c in ("start", "stop")]


def found(words: str) -> click.Command:
    """Our command of these words."""
    program, *names = words.split()
    command: click.Command = PROGRAMS[program]
    for name in names:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), name)
        assert inner is not None, f"no {words}"
        command = inner
    return command


def options(words: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    for spellings, facts in MANUAL[words].get("options", {}).items():
        yield spellings.split(", "), facts


@pytest.mark.parametrize("words", MANUAL)
def test_every_command_has_the_arguments_and_options_of_the_manual(words: str) -> None:
    command = found(words)
    ours = {s: p for p in command.params if isinstance(p, click.Option) for s in p.opts}

    arguments = [p.name for p in command.params if isinstance(p, click.Argument)]
    assert arguments == MANUAL[words].get("arguments", [])
    for spellings, facts in options(words):
        for spelling in spellings:
            option = ours[spelling]
            assert option.is_flag == (not facts)
            if "default" in facts:
                assert option.default == facts["default"]
            if "choices" in facts:
                assert isinstance(option.type, click.Choice)
                assert set(facts["choices"]) == set(option.type.choices)


@pytest.mark.parametrize("group", FACTS["groups"])
def test_the_list_has_every_command_of_every_group(group: str) -> None:
    listed = {w.removeprefix(f"{group} ").split()[0] for w in MANUAL if w.startswith(f"{group} ")}
    # The manual describes this group, and forgets it in the list of all.
    assert listed - {"webserver"} == set(FACTS["groups"][group])
    assert isinstance(found(group), click.Group)


def variants(words: str) -> Iterator[str]:
    """The options of each invocation."""
    yield ""
    yield "-h"
    for spellings, facts in options(words):
        values = facts.get("choices") or [OPTION_VALUES.get(facts.get("value"), "")]
        yield from (f"{spelling} {value}".strip() for spelling in spellings for value in values)


INVOCATIONS = [
    pytest.param(words, extra, id=f"{words} {extra}")
    for words in MANUAL
    if words not in SERVERS
    for extra in variants(words)
]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("manual")) as running:
        home = running.home
        (home / "words.txt").write_text("hello\n")
        (home / "data").mkdir()
        (home / "quickstart.py").write_text(FILE.format(name="quickstart", seconds=0))
        (home / "long.py").write_text(FILE.format(name="long", seconds=600))
        running("aiflow namespace add lab")
        for name in ("quickstart", "long"):
            running(f"aiflow workflow upload {name}.py")
        running("aiflow workflow-execution start quickstart --wait")
        running("aiflow event send k v --namespace lab")
        yield running
        for namespace in ("default", "lab"):
            running(f"aiflow workflow-execution stop-all long -n {namespace} --wait")


class Values:
    """Makes what the arguments of a command name."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._numbers = count(1)

    def of(self, words: str) -> list[str]:
        """The arguments of the command, with new things for those that take something away."""
        if words.count(" ") == 1:
            return []
        program, group, verb = words.split()
        if verb == "get-value":
            return [{"aiflow": "rpc_port", "notification": "server_port"}[program]]
        return [getattr(self, name)(group, verb) for name in MANUAL[words].get("arguments", [])]

    def namespace_name(self, group: str, verb: str) -> str:
        name = f"namespace{next(self._numbers)}"
        if verb == "delete":
            ops.add_namespace(name)
        return name

    def workflow_name(self, group: str, verb: str) -> str:
        if (group, verb) != ("workflow", "delete"):
            return "long" if verb == "stop-all" else "quickstart"
        name = f"workflow{next(self._numbers)}"
        file = self._home / f"{name}.py"
        file.write_text(FILE.format(name=name, seconds=0))
        ops.upload_workflows(file)
        return name

    def file_path(self, group: str, verb: str) -> str:
        return "quickstart.py"

    def workflow_execution_id(self, group: str, verb: str) -> str:
        if verb in ("start", "stop"):
            return str(ops.start_workflow_execution("long"))
        if verb != "delete":
            return "1"
        execution = ops.start_workflow_execution("quickstart")
        until(lambda: ops.get_workflow_execution(execution).end_date)
        return str(execution)

    def task_execution_id(self, group: str, verb: str) -> str:
        return "1"

    def task_name(self, group: str, verb: str) -> str:
        return "greet"

    def expression(self, group: str, verb: str) -> str:
        return "cron@0 0 1 1 *"

    def workflow_schedule_id(self, group: str, verb: str) -> str:
        return str(ops.add_workflow_schedule("cron@0 0 1 1 *", "quickstart").id)

    def workflow_trigger_id(self, group: str, verb: str) -> str:
        rule = WorkflowRule(SingleEventCondition("go"))
        return str(ops.add_workflow_trigger(rule, "quickstart").id)

    def key(self, group: str, verb: str) -> str:
        return "k"

    def value(self, group: str, verb: str) -> str:
        return "v"


@pytest.fixture(scope="module")
def values(deployment: Served) -> Values:
    return Values(deployment.home)


@pytest.mark.parametrize(("words", "extra"), INVOCATIONS)
def test_every_command_runs_with_every_option(
    words: str,
    extra: str,
    deployment: Served,
    values: Values,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = shlex.join(values.of(words))
    if " config " in words or " db " in words:
        # Not those of the servers that run.
        monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
        monkeypatch.setenv("NOTIFICATION_HOME", str(tmp_path))
        deployment(f"{words.split()[0]} db init")
    expected: int | None = 0
    if extra == "-h":
        arguments = ""
    elif words in ASKING and extra not in ("-y", "--yes"):
        expected = USAGE
        said = deployment(f"{words} {extra} {arguments}", code=expected).stderr
        assert "Say yes with -y." in said
        extra += " -y"
        expected = 0
    elif "webserver" in words:
        expected = USAGE
    elif words == "notification event listen":
        # It ends only when it is told to; without a begin it waits for what comes.
        expected = 0 if "begin" in extra else TIMEOUT
        extra += " --limit 1 --timeout 300ms"
    done = deployment(os.path.expandvars(f"{words} {extra} {arguments}"), code=expected)
    if "json" in extra:
        assert yaml.safe_load(done.stdout) is not None
