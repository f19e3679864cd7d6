"""The double that scheduler tests use must keep the promises of an executor as well."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from aiflow_core.deployment import Deployment
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.specs.executor import alone
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.executor import MemoryExecutor, MemoryExecutorContract

REQUEST = AttemptRequest(
    key=AttemptKey(workflow_execution_id=1, task_name="task", sequence_number=1),
    namespace="default",
    workflow_name="w",
    task=TaskDefinition(name="task"),
)


@pytest.fixture
def reports() -> list[AttemptReport]:
    return []


@pytest.fixture
def executor(tmp_path: Path, reports: list[AttemptReport]) -> MemoryExecutor:
    executor = MemoryExecutor()
    deployment = Deployment(home=tmp_path, log_dir=tmp_path, notification_uri="")
    executor.start(ExitStack(), deployment, MemoryBlobManager(), reports.append, alone)
    return executor


def statuses(reports: list[AttemptReport]) -> list[TaskStatus]:
    return [report.status for report in reports]


def test_an_attempt_runs_until_the_test_ends_it(
    executor: MemoryExecutor, reports: list[AttemptReport]
) -> None:
    executor.submit(REQUEST)
    assert executor.running == [REQUEST.key]

    executor.end(REQUEST.key, TaskStatus.FAILED, "no luck")

    assert statuses(reports) == [TaskStatus.RUNNING, TaskStatus.FAILED]
    assert reports[-1].reason == "no luck"
    assert executor.running == []


def test_an_attempt_is_started_once(executor: MemoryExecutor, reports: list[AttemptReport]) -> None:
    executor.submit(REQUEST)
    executor.submit(REQUEST)
    executor.end(REQUEST.key, TaskStatus.SUCCESS)
    executor.submit(REQUEST)

    assert executor.started == [REQUEST]
    assert reports[-1].status is TaskStatus.SUCCESS


def test_what_has_ended_keeps_its_status_when_it_is_stopped(
    executor: MemoryExecutor, reports: list[AttemptReport]
) -> None:
    executor.submit(REQUEST)
    executor.end(REQUEST.key, TaskStatus.SUCCESS)

    executor.stop(REQUEST.key)

    assert reports[-1].status is TaskStatus.SUCCESS


def test_what_is_unknown_is_stopped_and_cannot_be_adopted(
    executor: MemoryExecutor, reports: list[AttemptReport]
) -> None:
    executor.adopt(REQUEST)
    assert "vanished" in reports[-1].reason

    executor.stop(REQUEST.key)

    assert statuses(reports) == [TaskStatus.FAILED, TaskStatus.STOPPED]


def test_everything_can_be_stopped(executor: MemoryExecutor, reports: list[AttemptReport]) -> None:
    executor.submit(REQUEST)

    executor.stop_all()

    assert statuses(reports) == [TaskStatus.RUNNING, TaskStatus.STOPPED]


class TestMemoryExecutor(MemoryExecutorContract):
    """Among several servers it behaves as the others do."""
