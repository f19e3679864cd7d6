"""What the tests of workflow authors are given by pytest, once `aiflow-core` is installed.

A plugin of pytest (entry point `pytest11`), so every test run of its environment imports this: what
it needs is imported when the fixture is used.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiflow_core.model.workflow import Workflow
    from aiflow_core.testing.workflow import WorkflowTest


@pytest.fixture
def aiflow_workflow(request: pytest.FixtureRequest) -> Iterator[Callable[..., "WorkflowTest"]]:
    """Makes a `WorkflowTest`: of a workflow, or of the path of a workflow file, from the directory
    of the test or from where pytest was started. Takes its keywords, too."""
    from aiflow_core.testing.workflow import WorkflowTest

    before = list(sys.path)

    def make(workflow: "Workflow | str | Path", **options: Any) -> "WorkflowTest":
        if isinstance(workflow, str | Path):
            beside = request.path.parent / workflow
            workflow = beside if beside.exists() else workflow
        return WorkflowTest(workflow, **options)

    yield make
    # A workflow file finds what lies beside it; the next test does not.
    sys.path[:] = before
