"""A stranger writes an operator, tests it, installs it and uses it, without a line in this tree."""

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

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

[project.entry-points."aiflow.hooks"]
deaf = "broken.operator"

[project.entry-points."aiflow.commands"]
"no-command" = "broken.operator:command"
"""

WORKFLOW = """\
from aiflow_core import Workflow
from shouting.operator import ShoutOperator

with Workflow(name="loud") as workflow:
    first = ShoutOperator(name="first", text="good morning")
    second = ShoutOperator(name="second", text="good night")
    second.start_after(first)
"""


@dataclass(frozen=True)
class Stranger:
    """Somebody's environment, in which AIFlow is installed as well.

    Attributes:
        folder: where the sources are, outside of this tree.
        python: its interpreter.
        environment: of every command.
    """

    folder: Path
    python: Path
    environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.python), "-m", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def plugins(self) -> dict[str, dict[str, str]]:
        rows = json.loads(self.run("aiflow_core.cli", "plugins", "list", "-o", "json").stdout)
        return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    folder = tmp_path_factory.mktemp("stranger")
    write(
        folder,
        {
            "shouting/pyproject.toml": PYPROJECT,
            "shouting/shouting/__init__.py": "",
            "shouting/shouting/operator.py": OPERATOR,
            "shouting/tests/test_operator.py": CONTRACT,
            "broken/pyproject.toml": BROKEN_PYPROJECT,
            "broken/broken/__init__.py": "class NoOperator:\n    pass\n",
            "broken/broken/operator.py": "import a_library_that_nobody_has\n",
            "workflow.py": WORKFLOW,
        },
    )
    venv = folder / "venv"
    uv("venv", str(venv), "--python", str(Path(sysconfig.get_path("scripts")) / "python"))
    python = venv / "bin" / "python"
    # What this environment holds is visible in the other one, workspace members included.
    (site_packages,) = venv.glob("lib/*/site-packages")
    here = sysconfig.get_path("purelib")
    (site_packages / "aiflow.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for project in ("shouting", "broken"):
        uv(
            *("pip", "install", "--python", str(python), "--offline"),
            *("--no-deps", "--no-build-isolation", str(folder / project)),
        )
    environment = {**os.environ, "AIFLOW_HOME": str(folder / "home")}
    return Stranger(folder, python, environment)


def uv(*words: str) -> None:
    subprocess.run(["uv", *words, "--quiet"], check=True, timeout=60)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_the_operator_passes_the_contract_suite(stranger: Stranger) -> None:
    done = stranger.run("pytest", "shouting", "-q", "-p", "no:cacheprovider")

    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_the_operator_is_listed_with_version_and_origin(stranger: Stranger) -> None:
    assert stranger.plugins()["shout"] == {
        "kind": "operator",
        "name": "shout",
        "version": "3.1.4",
        "origin": "shouting",
        "problem": "",
    }


def test_broken_plugins_are_listed_with_the_reason(stranger: Stranger) -> None:
    plugins = stranger.plugins()

    missing = "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"
    for name in ("unimportable", "deaf", "no-command"):
        assert plugins[name]["problem"] == missing
        assert plugins[name]["origin"] == "broken"
    assert "has no attribute 'Missing'" in plugins["misnamed"]["problem"]
    assert (
        plugins["no_operator"]["problem"]
        == "The operator 'no_operator' is not a subclass of Operator."
    )
    assert plugins["bash"]["problem"] == ""


def test_broken_plugins_do_not_keep_a_workflow_from_running(stranger: Stranger) -> None:
    done = stranger.run("aiflow_core.cli", "run", "workflow.py")

    lines = done.stdout.splitlines()
    assert lines.index("[first] GOOD MORNING") < lines.index("[second] GOOD NIGHT")
    assert lines[-1] == "loud: SUCCESS"
    assert "The observer 'deaf' is left out: ModuleNotFoundError" in done.stderr


def test_broken_commands_do_not_keep_help_from_being_shown(stranger: Stranger) -> None:
    assert "workflow-execution" in stranger.run("aiflow_core.cli", "--help").stdout
