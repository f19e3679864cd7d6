"""A task that is a job in another system really runs here: its process is killed right after it has
begun the job, and the retry takes that job over."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aiflow_core.model.execution import AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.testing.executor import Stage
from aiflow_core.testing.waiting import wait_until
from aiflow_executor_local.executor import LocalExecutor

# A job is a directory under its key; the test is the system that works on it.
FLOW = """
import os
from pathlib import Path
from aiflow_core import Workflow
from aiflow_core.errors import ConflictError, NotFoundError
from aiflow_core.specs.job import JobController, JobOperator, JobState, JobStatus

SYSTEM = Path({system!r})

class Directories(JobController):
    def submit(self, key, job):
        draft = SYSTEM / f".{{os.getpid()}}"
        draft.mkdir()
        (draft / "job").write_text(job)
        try:
            draft.rename(SYSTEM / key)
        except OSError:
            pass
        return key
    def adopt(self, key):
        return key if (SYSTEM / key).exists() else None
    def status(self, handle):
        if not (SYSTEM / handle).exists():
            raise NotFoundError("job", handle)
        end = SYSTEM / handle / "status"
        return JobState(status=JobStatus(end.read_text() if end.exists() else "RUNNING"))
    def stop(self, handle):
        if not (SYSTEM / handle / "status").exists():
            (SYSTEM / handle / "status").write_text("STOPPED")
    def clean_up(self, handle):
        (SYSTEM / handle / "cleaned").touch()
    def result(self, handle):
        return (SYSTEM / handle / "result").read_text()

class Remote(JobOperator):
    poll_interval = 0.01
    def controller(self):
        return Directories()
    def job(self, context):
        return f"by {{os.getpid()}}"
    def succeeded(self, result, context):
        (SYSTEM / "journal").open("a").write(f"{{context.key}} {{result}}\\n")

with Workflow("contract") as workflow:
    Remote("remote", retries=1)
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    system = tmp_path / "system"
    system.mkdir()
    return system


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(lambda: LocalExecutor(parallelism=2), tmp_path / "stage")
    yield stage
    stage.executor.stop_all()
    stage.leave()


def submitted(stage: Stage, system: Path, try_number: int) -> AttemptRequest:
    request = stage.request("remote", bundle=stage.make_bundle(FLOW.format(system=str(system))))
    key = msgspec.structs.replace(request.key, try_number=try_number)
    request = msgspec.structs.replace(request, key=key)
    stage.executor.submit(request)
    return request


def jobs(system: Path) -> list[Path]:
    return sorted(system.glob("aiflow-*"))


def await_job(system: Path) -> Path:
    wait_until(lambda: bool(jobs(system)), "a job is begun")
    return jobs(system)[0]


def end(job: Path, status: str) -> None:
    (job / "result").write_text("42")
    (job / "draft").write_text(status)
    (job / "draft").rename(job / "status")


def test_a_job_runs_to_its_end(stage: Stage, system: Path) -> None:
    request = submitted(stage, system, 1)
    job = await_job(system)

    end(job, "SUCCESS")

    assert stage.final(request).status is TaskStatus.SUCCESS
    assert (system / "journal").read_text() == "1_remote_1.1 42\n"
    assert (job / "cleaned").exists()


def test_stopping_the_task_stops_the_job(stage: Stage, system: Path) -> None:
    request = submitted(stage, system, 1)
    job = await_job(system)
    stage.await_report(request, TaskStatus.RUNNING)

    stage.executor.stop(request.key)

    assert stage.final(request).status is TaskStatus.STOPPED
    assert (job / "status").read_text() == "STOPPED"


@pytest.mark.parametrize("where", ["job.submit.after", "job.result.before", "job.clean_up.after"])
def test_the_retry_takes_over_the_job_of_a_process_that_was_killed(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        # Of the processes of tasks: this one was not told when it began.
        patch.setenv("AIFLOW_CRASH_AT", where)
        stage = Stage(lambda: LocalExecutor(parallelism=2), tmp_path / "stage")
        first = submitted(stage, system, 1)
        job = await_job(system)
        if where != "job.submit.after":
            end(job, "SUCCESS")
        report = stage.final(first)
        assert (report.status, "signal 9" in report.reason) == (TaskStatus.FAILED, True)
        stage.executor.stop_all()
        stage.leave()
    begun_by = (job / "job").read_text()

    stage.restart()
    second = submitted(stage, system, 2)
    if where == "job.submit.after":
        stage.await_report(second, TaskStatus.RUNNING)
        end(job, "SUCCESS")

    assert stage.final(second).status is TaskStatus.SUCCESS
    assert jobs(system) == [job], "exactly one"
    assert (job / "job").read_text() == begun_by
    assert (system / "journal").read_text().endswith("1_remote_1.2 42\n")
    stage.executor.stop_all()
    stage.leave()
