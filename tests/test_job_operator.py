"""Operators whose work is a job in another system: what they do while it does not answer, when they
are stopped, and with whom they share a job."""

import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aiflow_core.cli import aiflow
from aiflow_core.deployment import DEPLOYMENT_VARIABLE, deployment_id
from aiflow_core.errors import AIFlowError, UnavailableError, WaitTimeoutError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.job import JobController, JobOperator, JobStatus, job_key
from aiflow_core.specs.operator import AttemptStopped, TaskContext
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.job import MemoryJobController, MemoryJobs


class Task(JobOperator[str]):
    """A task of a system in memory; its `failures` are raised by the next calls."""

    def __init__(self, name: str, jobs: MemoryJobs, job: str = "runs", **config: Any) -> None:
        super().__init__(name, **config)
        self.jobs, self.what = jobs, job
        self.failures: dict[str, int] = {}
        self.results: list[Any] = []
        self.hold: threading.Event | None = None
        self.asked = threading.Event()

    def controller(self) -> JobController[str]:
        return Controller(self.jobs, self)

    def job(self, context: TaskContext) -> str:
        return self.what

    def succeeded(self, result: Any, context: TaskContext) -> None:
        super().succeeded(result, context)
        self.results.append(result)


class Controller(MemoryJobController):
    def __init__(self, jobs: MemoryJobs, task: Task) -> None:
        super().__init__(jobs)
        self.task = task

    def submit(self, key: str, job: str) -> str:
        handle = super().submit(key, job)
        self.task.asked.set()
        if self.task.hold is not None:
            assert self.task.hold.wait(10)
        self._fail("submit")
        return handle

    def status(self, handle: str) -> Any:
        self._fail("status")
        return super().status(handle)

    def clean_up(self, handle: str) -> None:
        self._fail("clean_up")
        super().clean_up(handle)

    def _fail(self, call: str) -> None:
        left = self.task.failures.get(call, 0)
        if left:
            self.task.failures[call] = left - 1
            raise UnavailableError(f"No answer to {call}.")


@pytest.fixture
def jobs() -> MemoryJobs:
    return MemoryJobs()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(JobOperator, "clock", clock)
    return clock


def task(jobs: MemoryJobs, job: str = "runs") -> Task:
    with Workflow("flow"):
        return Task("task", jobs, job)


def context(try_number: int = 1, sequence_number: int = 1, **names: str) -> TaskContext:
    key = AttemptKey(
        workflow_execution_id=1,
        task_name="task",
        sequence_number=sequence_number,
        try_number=try_number,
    )
    return TaskContext(key=key, **{"namespace": "default", "workflow_name": "flow", **names})


def in_background(work: Any) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def test_the_job_is_looked_at_again_and_again_until_it_ends(
    jobs: MemoryJobs, clock: ManualClock
) -> None:
    operator = task(jobs)
    operator.start(context())
    waiting, raised = in_background(lambda: operator.await_termination(context()))
    clock.await_waiters()
    (handle,) = jobs.states

    jobs.end(handle, JobStatus.SUCCESS)
    clock.advance(1)
    waiting.join(10)

    assert not waiting.is_alive()
    assert (raised, operator.results) == ([], [f"result of {handle}"])
    assert not jobs.files


@pytest.mark.parametrize(
    ("status", "words"), [("FAILED", "failed: out of luck"), ("STOPPED", "not by AIFlow")]
)
def test_a_job_that_did_not_succeed_fails_the_task_and_is_cleaned_up_after(
    jobs: MemoryJobs, clock: ManualClock, status: str, words: str
) -> None:
    operator = task(jobs)
    operator.start(context())
    jobs.end(next(iter(jobs.states)), JobStatus(status), "out of luck")

    with pytest.raises(AIFlowError, match=words):
        operator.await_termination(context())
    assert not jobs.files


def test_waiting_can_be_limited(jobs: MemoryJobs, clock: ManualClock) -> None:
    operator = task(jobs)
    operator.start(context())

    with pytest.raises(WaitTimeoutError, match="has not ended in 0 s"):
        operator.await_termination(context(), timeout=0)


@pytest.mark.parametrize("call", ["submit", "status"])
def test_a_system_that_does_not_answer_is_asked_again(
    jobs: MemoryJobs, clock: ManualClock, call: str
) -> None:
    operator = task(jobs, "succeeds")
    operator.failures = {call: 2}

    def work() -> None:
        operator.start(context())
        operator.await_termination(context())

    running, raised = in_background(work)
    for _ in range(1000):
        clock.advance(1)
        running.join(0.01)
        if not running.is_alive():
            break

    assert (raised, operator.failures) == ([], {call: 0})
    assert len(operator.results) == 1
    assert len(jobs.begun) == 1, "the answer was lost, not the job"


def test_what_cannot_be_cleaned_up_does_not_make_the_task_fail(
    jobs: MemoryJobs, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    operator = task(jobs, "succeeds")
    operator.failures = {"clean_up": 1}

    operator.start(context())
    operator.await_termination(context())

    assert len(operator.results) == 1
    assert "was not cleaned up after" in caplog.text


def test_stopping_ends_the_job(jobs: MemoryJobs) -> None:
    operator = task(jobs)
    operator.start(context())

    operator.stop(context())

    assert [state.status for state in jobs.states.values()] == [JobStatus.STOPPED]
    assert not jobs.files


def test_stopping_before_the_start_begins_nothing(jobs: MemoryJobs) -> None:
    task(jobs).stop(context())

    assert jobs.begun == []


def test_a_job_that_is_being_submitted_when_the_task_is_stopped_is_stopped_as_well(
    jobs: MemoryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = task(jobs)
    operator.hold = threading.Event()

    def interrupted(future: Any) -> Any:
        assert operator.asked.wait(10)
        raise AttemptStopped  # as the signal does while the main thread waits

    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(AttemptStopped):
            operator.start(context())
    operator.hold.set()
    operator.stop(context())

    assert [state.status for state in jobs.states.values()] == [JobStatus.STOPPED]


def test_a_job_is_taken_over_by_a_retry_and_by_nobody_else(jobs: MemoryJobs) -> None:
    task(jobs).start(context())

    task(jobs).start(context(try_number=3))
    assert len(jobs.begun) == 1

    for other in (
        context(sequence_number=2),
        context(workflow_name="other"),
        context(namespace="other"),
    ):
        task(jobs).start(other)
    assert len(set(jobs.begun)) == 4


def test_a_job_that_was_stopped_is_begun_anew_by_a_retry(jobs: MemoryJobs) -> None:
    first = task(jobs)
    first.start(context())
    first.stop(context())

    task(jobs).start(context(try_number=2))

    assert [state.status for state in jobs.states.values()] == ["STOPPED", "RUNNING"]


def test_a_deployment_whose_database_is_made_anew_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.delenv(DEPLOYMENT_VARIABLE, raising=False)
    before = deployment_id(tmp_path)

    done = CliRunner().invoke(aiflow, ["db", "reset", "-y"])

    assert done.exit_code == 0, done.output
    assert deployment_id(tmp_path) != before


def test_keys_differ_between_deployments(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    homes = [tmp_path_factory.mktemp("home") / "new" for _ in range(2)]
    monkeypatch.delenv(DEPLOYMENT_VARIABLE, raising=False)
    ids = [deployment_id(home) for home in homes]
    assert ids == [deployment_id(home) for home in homes], "and stay what they are"
    assert ids[0] != ids[1]
    assert [path.name for path in homes[0].iterdir()] == ["deployment_id"]

    keys = []
    for id in ids:
        monkeypatch.setenv(DEPLOYMENT_VARIABLE, id)
        assert deployment_id(homes[0]) == id, "what is said comes first"
        keys.append(job_key(context()))
    assert keys[0] != keys[1]
    assert {len(key) for key in keys} == {39}
