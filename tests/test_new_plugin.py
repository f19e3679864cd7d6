"""`aiflow plugin new`: what comes out is whole, and green once what is marked is filled in."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiflow_core.catalog import contract_of
from aiflow_core.cli import aiflow
from aiflow_core.scaffold import KINDS, MARK, new_plugin

from .strangers import move_in

REFERENCES = Path(__file__).parent / "references"
OPEN = "raise NotImplementedError"

# An executor is asked to run real processes, which its own plugin's tests do in full.
SELECTED = {"executor": "returns_is or waiting_task or before_it_begins"}


def fill_in(file: Path, reference: Path) -> None:
    """Put the reference in the place of what is marked in a Python file. What is marked and would
    run as it stands is left, unless the reference says something else."""
    bodies = _functions(reference.read_text())
    text = file.read_text()
    lines = text.splitlines()
    for name, function in reversed(_functions(text).items()):
        begin = next(
            (n for n in range(function.lineno, _end(function, lines)) if f"# {MARK}" in lines[n]),
            None,
        )
        if begin is None:
            continue
        end = _end(function, lines)
        filling = (
            "\n".join(map(ast.unparse, bodies[name].body))
            if name in bodies
            else _handed_on(function)
        )
        if name in bodies or OPEN in lines[end - 1]:
            indent = " " * (function.col_offset + 4)
            lines[begin:end] = [f"{indent}{line}" for line in filling.splitlines()]
    file.write_text("\n".join(lines) + "\n")


def _functions(text: str) -> dict[str, ast.FunctionDef]:
    """The functions and methods of a file by their names, in its order."""
    found = {}
    for node in ast.parse(text).body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef):
                owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                found[owner + inner.name] = inner
    return found


def _end(function: ast.FunctionDef, lines: list[str]) -> int:
    """The number of the line after the function; a comment at its end belongs to it."""
    end = function.end_lineno or function.lineno
    indent = " " * (function.col_offset + 4)
    while end < len(lines) and lines[end].startswith(f"{indent}#"):
        end += 1
    return end


def _handed_on(function: ast.FunctionDef) -> str:
    positional = [argument.arg for argument in function.args.args[1:]]
    keywords = [f"{argument.arg}={argument.arg}" for argument in function.args.kwonlyargs]
    return f"return self.inner.{function.name}({', '.join(positional + keywords)})"


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_green_once_what_is_marked_is_filled_in(kind: str, tmp_path: Path) -> None:
    stranger = move_in(tmp_path)
    project = tmp_path / "project"

    new_plugin(kind, "mine", project)
    reference = REFERENCES / f"{KINDS[kind][0]}.py"
    for file in project.rglob("*.py"):
        fill_in(file, reference)
    assert not [file for file in project.rglob("*.py") if OPEN in file.read_text()]
    stranger.install(project)

    selected = ["-k", SELECTED[kind]] if kind in SELECTED else []
    done = stranger.run("pytest", "-q", str(project), "-p", "no:cacheprovider", *selected)
    assert " passed" in done.stdout
    (row,) = stranger.rows("plugins", "show", "mine")
    assert (row["kind"], row["origin"]) == (kind, f"aiflow-{kind}-mine")
    assert (row["version"], row["api"], row["state"]) == ("0.1.0", ">=1,<2", "loaded")


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new distribution of each kind, as they come."""
    folder = tmp_path_factory.mktemp("projects")
    for kind in KINDS:
        new_plugin(kind, "some-thing", folder / kind)
    return folder


@pytest.mark.parametrize("kind", KINDS)
class TestADistribution:
    def test_holds_all_that_one_needs(self, projects: Path, kind: str) -> None:
        package = f"aiflow_{kind.replace('-', '_')}_some_thing"
        module = KINDS[kind][0]

        files = {str(p.relative_to(projects / kind)) for p in (projects / kind).rglob("*.*")}

        assert files >= {
            *("pyproject.toml", "README.md", ".gitignore", ".github/workflows/ci.yml"),
            *(f"{package}/__init__.py", f"{package}/{module}.py", f"{package}/py.typed"),
            f"tests/test_{module}.py",
        }

    def test_bounds_its_requirements(self, projects: Path, kind: str) -> None:
        project = tomllib.loads((projects / kind / "pyproject.toml").read_text())["project"]

        for line in (*project["dependencies"], *project["optional-dependencies"]["test"]):
            assert ">=" in line, line
            assert ",<" in line, line
        assert ",<" in f",{project['requires-python']}"

    def test_has_a_marked_method_for_all_that_its_contract_asks(
        self, projects: Path, kind: str
    ) -> None:
        if kind == "hooks":
            return  # an observer listens to what it likes
        contract = contract_of(f"aiflow.{kind.replace('-', '_')}")
        module = KINDS[kind][0]
        (file,) = (projects / kind).glob(f"aiflow_*/{module}.py")

        written = {name.partition(".")[2] for name in _functions(file.read_text())}

        assert contract.__abstractmethods__ <= written


def test_distributions_are_written_as_ours_are(projects: Path) -> None:
    for kind in KINDS:  # in its own folder, whose settings hold there
        for words in (["check"], ["format", "--check"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *words, "--no-cache"],
                cwd=projects / kind,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout


def test_the_types_of_distributions_hold(projects: Path, tmp_path: Path) -> None:
    packages = sorted(str(path) for path in projects.glob("*/aiflow_*"))

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *packages],
        cwd=projects,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout


class TestARefusal:
    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["operatr", "x"], 2, "There is no kind of plugin 'operatr'. Did you mean 'operator'?"),
            (["operator", "HttpCall"], 2, "Perhaps 'http-call'?"),
            (["operator", "http_call"], 2, "Perhaps 'http-call'?"),
            (["operator", "9lives"], 2, "it begins with a lower-case letter"),
            (["operator", ""], 2, "'' is no name for a plugin"),
            (["operator", "../x"], 2, "'../x' is no name for a plugin"),
            (["operator", "x" * 51], 2, "50 characters"),
            (["operator", "bash"], 4, "The operator 'bash' is installed already"),
            (["operator"], 2, "Missing argument 'NAME'"),
        ],
    )
    def test_says_what_is_wrong(
        self,
        words: list[str],
        code: int,
        said: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)

        done = CliRunner().invoke(aiflow, ["plugin", "new", *words])

        assert done.exit_code == code, done.output
        assert said in done.output
        assert not list(tmp_path.iterdir())

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "precious").touch()
        (tmp_path / "file").touch()

        for name in ("mine", "file"):
            command = ["plugin", "new", "hooks", "mine", "--directory", str(tmp_path / name)]
            done = CliRunner().invoke(aiflow, command)
            assert done.exit_code == 4, done.output
            assert "exists already" in done.output
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]

    def test_an_empty_directory_is_as_good_as_none(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()

        made = new_plugin("hooks", "mine", tmp_path / "mine")

        assert (tmp_path / "mine" / "pyproject.toml").is_file()
        assert Path("pyproject.toml") in made.to_fill_in

    def test_what_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        command = ["plugin", "new", "hooks", "mine", "--directory", str(tmp_path / "file" / "x")]
        done = CliRunner().invoke(aiflow, command)

        assert done.exit_code == 2, done.output
        assert "cannot be written: Not a directory" in done.output
