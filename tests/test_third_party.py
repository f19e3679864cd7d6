"""A stranger writes an operator, tests it, installs it and uses it, without a line in this tree."""

from typing import Any

import pytest

from .strangers import Stranger, move_in

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shouting"
version = "3.1.4"
dependencies = ["aiflow-core>=0.5,<0.6"]

[project.entry-points."aiflow.operator"]
shout = "shouting.operator:ShoutOperator"

[tool.hatch.build]
dev-mode-dirs = ["."]
"""

OPERATOR = '''\
from aiflow_core import Operator


class ShoutOperator(Operator):
    """Prints a text in capitals."""

    def __init__(self, name, text, **config):
        super().__init__(name, **config)
        self.text = text

    def start(self, context):
        if not self.text:
            raise ValueError("there is nothing to shout")
        print(self.text.upper())
'''

CONTRACT = """\
from aiflow_core.testing.operator import OperatorContract
from shouting.operator import ShoutOperator


class TestShoutOperator(OperatorContract):
    def make(self, name, **config):
        return ShoutOperator(name, text="hello", **config)

    def make_failing(self, name):
        return ShoutOperator(name, text="")
"""

BROKEN_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "broken"
version = "0.0.1"

[project.entry-points."aiflow.operator"]
unimportable = "broken.operator:Anything"
misnamed = "broken:Missing"
no_operator = "broken:NoOperator"

hangs = "broken.hangs:Anything"
mute = "broken.mute:Anything"
leaves = "broken.leaves:Anything"
dies = "broken.dies:Anything"
ends = "broken.ends:Anything"

[project.entry-points."aiflow.hooks"]
deaf = "broken.operator"

[project.entry-points."aiflow.commands"]
"no-command" = "broken.operator:command"

[tool.hatch.build]
dev-mode-dirs = ["."]
"""

EARLY_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "early"
version = "9.0"

[project.entry-points."aiflow.operator"]
early = "early:Operator"

[project.entry-points."aiflow.hooks"]
early = "early"

[tool.hatch.build]
dev-mode-dirs = ["."]

[tool.hatch.build.targets.wheel]
include = ["early.py"]
"""

WHISPER = """\
from aiflow_core import Operator

class WhisperOperator(Operator):
    def __init__(self, name, text, **config):
        super().__init__(name, **config)
        self.text = text

    def start(self, context):
        print(self.text.lower())
"""

LISTENS = """\
from pathlib import Path
from aiflow_core.hookspecs import hook

@hook
def task_execution_changed(task_execution):
    with (Path(__file__).parent / "heard").open("a") as heard:
        heard.write(f"{task_execution.status}\\n")
"""

QUIET = """\
from aiflow_core import Workflow
from ai_flow_plugins.operator_plugins.whisper import WhisperOperator

with Workflow(name="quiet") as workflow:
    WhisperOperator(name="only", text="GOOD NIGHT")
"""

WORKFLOW = """\
from aiflow_core import Workflow
from shouting.operator import ShoutOperator

with Workflow(name="loud") as workflow:
    first = ShoutOperator(name="first", text="good morning")
    second = ShoutOperator(name="second", text="good night")
    second.start_after(first)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    stranger = move_in(tmp_path_factory.mktemp("stranger"))
    stranger.write(
        {
            "shouting/pyproject.toml": PYPROJECT,
            "shouting/shouting/__init__.py": "",
            "shouting/shouting/operator.py": OPERATOR,
            "shouting/tests/test_operator.py": CONTRACT,
            "broken/pyproject.toml": BROKEN_PYPROJECT,
            "broken/broken/__init__.py": "class NoOperator:\n    pass\n",
            "broken/broken/operator.py": "import a_library_that_nobody_has\n",
            "broken/broken/hangs.py": "import time\ntime.sleep(60)\n",
            "broken/broken/leaves.py": "import os\nos.write(2, b'bye')\nos._exit(3)\n",
            "broken/broken/mute.py": "import os, time\nos.closerange(3, 99)\ntime.sleep(60)\n",
            "broken/broken/dies.py": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "broken/broken/ends.py": "raise SystemExit('no such licence')\n",
            "early/pyproject.toml": EARLY_PYPROJECT,
            "early/early.py": 'aiflow_api = ">=2,<3"\nimport a_library_of_tomorrow\n',
            "workflow.py": WORKFLOW,
            "quiet.py": QUIET,
            "home/ai_flow_plugins/operator_plugins/whisper.py": WHISPER,
            "home/ai_flow_plugins/hooks_plugins/listens.py": LISTENS,
        }
    )
    stranger.install(*(stranger.folder / name for name in ("shouting", "broken", "early")))
    return stranger


def test_the_operator_passes_the_contract_suite(stranger: Stranger) -> None:
    done = stranger.run("pytest", "shouting", "-q", "-p", "no:cacheprovider")

    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def listed(stranger: Stranger) -> list[dict[str, Any]]:
    return stranger.rows("plugins", "list")


def test_the_operator_is_listed_with_version_and_origin(listed: list[dict[str, Any]]) -> None:
    assert by_name(listed)["shout"] == {
        "kind": "operator",
        "name": "shout",
        "version": "3.1.4",
        "origin": "shouting",
        "api": "",
        "state": "lazy",
        "problem": "",
    }


def test_what_is_not_in_use_is_listed_without_being_imported(
    listed: list[dict[str, Any]],
) -> None:
    states = {f"{row['kind']}:{row['name']}": row["state"] for row in listed}

    for name in ("unimportable", "misnamed", "hangs", "dies", "bash"):
        assert states[f"operator:{name}"] == "lazy"
    for name in ("event-store:notification-server", "scheduler:event", "executor:local"):
        assert states[name] == "loaded", "they are in use"
    assert states["event-store:sql"] == states["command:no-command"] == "lazy"
    assert states["hooks:deaf"] == "broken", "every observer is in use"


def test_what_is_for_another_version_of_the_contracts_is_left_out(
    listed: list[dict[str, Any]],
) -> None:
    found = [row for row in listed if row["name"] == "early"]

    assert {(row["kind"], row["state"], row["api"]) for row in found} == {
        ("operator", "misfit", ">=2,<3"),
        ("hooks", "misfit", ">=2,<3"),
    }
    assert "for the versions >=2,<3 of AIFlow's contracts, and these are 1" in found[0]["problem"]


def test_the_doctor_finds_what_is_wrong_with_each(stranger: Stranger) -> None:
    listed = by_name(stranger.rows("plugins", "doctor", "--timeout", "6", code=1))

    missing = "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"
    for name in ("unimportable", "deaf", "no-command"):
        assert missing in listed[name]["problem"]
        assert (listed[name]["origin"], listed[name]["state"]) == ("broken", "broken")
    assert "has no attribute 'Missing'" in listed["misnamed"]["problem"]
    assert "'no_operator' is not a subclass of Operator" in listed["no_operator"]["problem"]
    assert listed["hangs"]["problem"] == "it does not come back from its import in 6 s"
    assert (
        listed["leaves"]["problem"] == "the process that imports it exits with 3, after saying: bye"
    )
    assert listed["dies"]["problem"].startswith("the process that imports it is killed by SIGSEGV")
    assert listed["ends"]["problem"].endswith("does not load: SystemExit: no such licence")
    assert listed["early"]["state"] == "misfit"
    for name in ("bash", "shout", "sql", "rpc", "server"):
        assert (listed[name]["state"], listed[name]["problem"]) == ("loaded", "")


def test_one_that_hangs_can_be_shown(stranger: Stranger) -> None:
    for name in ("hangs", "mute"):
        (row,) = stranger.rows("plugins", "show", name, "--timeout", "2")

        assert (row["state"], row["schema"]) == ("broken", {})
        assert row["problem"] == "it does not come back from its import in 2 s"


def test_broken_plugins_do_not_keep_a_workflow_from_running(stranger: Stranger) -> None:
    done = stranger.run("aiflow_core.cli", "run", "workflow.py")

    lines = done.stdout.splitlines()
    assert lines.index("[first] GOOD MORNING") < lines.index("[second] GOOD NIGHT")
    assert lines[-1] == "loud: SUCCESS"
    assert "The observer 'deaf' is left out: " in done.stderr
    assert "The observer 'early' is left out: it is for the versions >=2,<3" in done.stderr


def test_plugins_of_the_drop_in_folder_take_part(stranger: Stranger) -> None:
    heard = stranger.folder / "home" / "ai_flow_plugins" / "hooks_plugins" / "heard"
    heard.unlink(missing_ok=True)

    said = stranger.aiflow("run", "quiet.py").splitlines()

    assert "[only] good night" in said
    assert said[-1] == "quiet: SUCCESS"
    assert heard.read_text().splitlines()[-1] == "SUCCESS"


def test_broken_commands_do_not_keep_help_from_being_shown(stranger: Stranger) -> None:
    assert "workflow-execution" in stranger.run("aiflow_core.cli", "--help").stdout
