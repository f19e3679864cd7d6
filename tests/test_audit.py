"""The watch over the servers notices what it is there for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiflow_core.testing.audit import environment


def violations_of(program: str, tmp_path: Path, *argv: str) -> str:
    log = tmp_path / "violations"
    subprocess.run(
        [sys.executable, "-c", program, *argv],
        env={**os.environ, **environment(log)},
        check=True,
    )
    return log.read_text() if log.exists() else ""


UNPICKLES = "import pickle, fractions; pickle.loads(pickle.dumps(fractions.Fraction(1, 2)))"


@pytest.mark.parametrize(
    ("program", "noticed"),
    [
        (UNPICKLES, "unpickles fractions.Fraction"),
        ("exec(compile('x = 1', '/somewhere/workflow.py', 'exec'))", "executes /somewhere"),
        ("import subprocess; subprocess.run(['true'])", "starts ['true']"),
        ("import os; os.system('true')", "os.system"),
    ],
)
def test_a_server_that_runs_what_is_not_its_own_is_noticed(
    program: str, noticed: str, tmp_path: Path
) -> None:
    assert noticed in violations_of(program, tmp_path, "server", "start")


def test_a_server_that_imports_installed_modules_is_fine(tmp_path: Path) -> None:
    program = "import msgspec, sqlalchemy, dataclasses, collections, pluggy"
    assert violations_of(program, tmp_path, "server", "start") == ""


def test_a_process_that_is_no_server_may_do_as_it_likes(tmp_path: Path) -> None:
    assert violations_of(UNPICKLES, tmp_path, "workflow", "upload") == ""
