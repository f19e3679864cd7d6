"""Watches every server that the tests start: it never runs, imports or unpickles users' code.

A pytest plugin. Servers are processes of their own, so each is made to watch itself, see
`server_audit/sitecustomize.py`; a violation anywhere fails the run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

AUDIT_DIRECTORY = Path(__file__).parent / "server_audit"


def environment(log: Path) -> dict[str, str]:
    """What lets servers started with it write their violations to `log`."""
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(AUDIT_DIRECTORY), *([before] if before else [])])
    return {"PYTHONPATH": path, "AIFLOW_AUDIT_LOG": str(log)}


@pytest.fixture(scope="session", autouse=True)
def _audited_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log = tmp_path_factory.mktemp("audit") / "violations"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(log).items():
            patch.setenv(name, value)
        yield
    violations = log.read_text() if log.exists() else ""
    assert not violations, f"A server did what no server may do:\n{violations}"
