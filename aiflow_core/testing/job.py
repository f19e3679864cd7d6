"""The contract suite of job controllers, and a system in memory that keeps it."""

import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aiflow_core.crash import passing
from aiflow_core.errors import AIFlowError, ConflictError, NotFoundError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.job import JobController, JobOperator, JobState, JobStatus, job_key
from aiflow_core.specs.operator import TaskContext

KEY, OTHER = f"aiflow-{'0' * 32}", f"aiflow-{'1' * 32}"

KILLED_AT = (
    *("job.submit.before", "job.submit.after", "job.result.before", "job.result.after"),
    *("job.clean_up.before", "job.clean_up.after"),
)


class MemoryJobs:
    """A system of jobs: what outlives the processes that use it.

    A job is a word: `succeeds` and `fails` have ended when they are looked at, `runs` runs until it
    is stopped or `end` is called.

    Attributes:
        begun: the keys of the jobs that were begun, in order, as often as they were.
        files: what running jobs use, by handle.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun: list[str] = []
        self.files: set[str] = set()
        self.states: dict[str, JobState] = {}

    def begin(self, key: str, job: str) -> str:
        """Begin a job under the key, whether or not there is one."""
        handle = f"{key}/{len(self.begun)}"
        self.begun.append(key)
        self.files.add(handle)
        self.states[handle] = {
            "succeeds": JobState(status=JobStatus.SUCCESS),
            "fails": JobState(status=JobStatus.FAILED, reason="out of luck"),
            "runs": JobState(status=JobStatus.RUNNING),
        }[job]
        return handle

    def end(self, handle: str, status: JobStatus, reason: str = "") -> None:
        """Let a job that runs end."""
        if self.states[handle].status is JobStatus.RUNNING:
            self.states[handle] = JobState(status=status, reason=reason)


class MemoryJobController(JobController[str]):
    """Reaches the jobs of a `MemoryJobs`."""

    def __init__(self, jobs: MemoryJobs) -> None:
        self.jobs = jobs

    def submit(self, key: str, job: str) -> str:
        with self.jobs.lock:
            return self.adopt(key) or self.jobs.begin(key, job)

    def adopt(self, key: str) -> str | None:
        return next((h for h in self.jobs.states if h.rpartition("/")[0] == key), None)

    def status(self, handle: str) -> JobState:
        if handle not in self.jobs.states:
            raise NotFoundError("job", handle)
        return self.jobs.states[handle]

    def stop(self, handle: str) -> None:
        self.status(handle)
        self.jobs.end(handle, JobStatus.STOPPED)

    def clean_up(self, handle: str) -> None:
        self.jobs.files.discard(handle)

    def result(self, handle: str) -> Any:
        if self.status(handle).status is not JobStatus.SUCCESS:
            raise ConflictError(f"The job {handle} has no result.")
        return f"result of {handle}"


class Killed(BaseException):
    """What a process that dies raises, where the test has only one process."""


class JobControllerContract(ABC):
    """What every job controller must do. Subclass it as `Test...`.

    A test has one system, and any number of controllers that know nothing of each other, as in
    processes that come one after the other.
    """

    @abstractmethod
    def make(self) -> JobController[Any]:
        """A new controller of this test's system."""

    @abstractmethod
    def job(self, kind: str) -> Any:
        """The description of a job that `succeeds`, `fails` or `runs` until it is stopped."""

    @abstractmethod
    def begun(self, key: str) -> int:
        """How many jobs the system ever began under the key."""

    @abstractmethod
    def is_running(self, handle: str) -> bool:
        """Whether anything of the job still runs, by another way than the controller's."""

    def await_end(self, controller: JobController[Any], handle: str) -> JobState:
        """The final state of a job; override it where the system has to be helped along."""
        waiting = threading.Event()
        for _ in range(3000):
            state = controller.status(handle)
            if state.status is not JobStatus.RUNNING:
                return state
            waiting.wait(0.01)
        raise AssertionError(f"the job {handle} does not end")

    @pytest.fixture
    def controller(self) -> JobController[Any]:
        return self.make()

    # --- how jobs end ---

    def test_a_job_that_succeeds_has_a_result(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("succeeds"))

        assert self.await_end(controller, handle).status is JobStatus.SUCCESS
        assert controller.result(handle) == self.make().result(handle)

    def test_a_job_that_fails_says_why(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("fails"))

        state = self.await_end(controller, handle)
        assert state.status is JobStatus.FAILED
        assert state.reason
        assert "\n" not in state.reason

    def test_what_did_not_succeed_has_no_result(self, controller: JobController[Any]) -> None:
        failed, running = (
            controller.submit(KEY, self.job("fails")),
            controller.submit(OTHER, self.job("runs")),
        )
        self.await_end(controller, failed)

        for handle in (failed, running):
            with pytest.raises(ConflictError):
                controller.result(handle)
        controller.stop(running)

    def test_an_unknown_job_is_not_found(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("succeeds"))

        for call in (controller.status, controller.stop, controller.result):
            with pytest.raises(NotFoundError):
                call(f"{handle}-unknown")

    # --- one key, one job ---

    def test_a_key_that_was_submitted_is_not_begun_again(
        self, controller: JobController[Any]
    ) -> None:
        first = controller.submit(KEY, self.job("runs"))

        assert controller.submit(KEY, self.job("runs")) == first
        assert self.make().submit(KEY, self.job("runs")) == first, "by another process"
        assert self.begun(KEY) == 1
        controller.stop(first)

    def test_different_keys_are_different_jobs(self, controller: JobController[Any]) -> None:
        first, second = (controller.submit(key, self.job("succeeds")) for key in (KEY, OTHER))

        assert first != second
        assert (self.begun(KEY), self.begun(OTHER)) == (1, 1)

    def test_of_many_that_submit_at_once_one_begins_the_job(self) -> None:
        controllers = [self.make() for _ in range(8)]
        together = threading.Barrier(8)

        def submit(controller: JobController[Any]) -> str:
            together.wait()
            return controller.submit(KEY, self.job("runs"))

        with ThreadPoolExecutor(8) as pool:
            handles = list(pool.map(submit, controllers))
        assert len(set(handles)) == 1
        assert self.begun(KEY) == 1
        controllers[0].stop(handles[0])

    @pytest.mark.parametrize("kind", ["succeeds", "fails"])
    def test_what_has_ended_is_not_begun_again(
        self, controller: JobController[Any], kind: str
    ) -> None:
        handle = controller.submit(KEY, self.job(kind))
        state = self.await_end(controller, handle)

        assert self.make().submit(KEY, self.job(kind)) == handle
        assert self.make().status(handle) == state
        assert self.begun(KEY) == 1

    # --- adopting ---

    def test_a_key_without_a_job_has_none_to_adopt(self, controller: JobController[Any]) -> None:
        controller.submit(OTHER, self.job("succeeds"))

        assert controller.adopt(KEY) is None
        assert self.begun(KEY) == 0

    def test_a_running_job_is_adopted_by_its_key(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("runs"))
        another = self.make()

        assert another.adopt(KEY) == handle
        assert another.status(handle).status is JobStatus.RUNNING
        assert self.begun(KEY) == 1
        another.stop(handle)

    def test_a_job_that_ended_meanwhile_is_adopted_with_its_end(
        self, controller: JobController[Any]
    ) -> None:
        handle = controller.submit(KEY, self.job("succeeds"))
        self.await_end(controller, handle)
        another = self.make()

        assert another.adopt(KEY) == handle
        assert another.status(handle).status is JobStatus.SUCCESS
        assert another.result(handle) == controller.result(handle)

    # --- stopping ---

    def test_a_job_that_was_stopped_is_gone(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("runs"))
        assert self.is_running(handle)

        self.make().stop(handle)

        assert not self.is_running(handle)
        assert controller.status(handle).status is JobStatus.STOPPED

    def test_stopping_again_changes_nothing(self, controller: JobController[Any]) -> None:
        running = controller.submit(KEY, self.job("runs"))
        ended = controller.submit(OTHER, self.job("succeeds"))
        self.await_end(controller, ended)

        for _ in range(2):
            controller.stop(running)
            controller.stop(ended)

        assert controller.status(running).status is JobStatus.STOPPED
        assert controller.status(ended).status is JobStatus.SUCCESS

    def test_a_job_that_was_stopped_is_not_begun_again(
        self, controller: JobController[Any]
    ) -> None:
        handle = controller.submit(KEY, self.job("runs"))
        controller.stop(handle)

        assert self.make().submit(KEY, self.job("runs")) == handle
        assert self.begun(KEY) == 1
        assert not self.is_running(handle)

    # --- cleaning up ---

    def test_what_was_cleaned_up_after_is_still_known(self, controller: JobController[Any]) -> None:
        handle = controller.submit(KEY, self.job("succeeds"))
        self.await_end(controller, handle)
        result = controller.result(handle)

        controller.clean_up(handle)
        controller.clean_up(handle)

        another = self.make()
        assert another.adopt(KEY) == handle
        assert another.status(handle).status is JobStatus.SUCCESS
        assert another.result(handle) == result
        assert another.submit(KEY, self.job("succeeds")) == handle
        assert self.begun(KEY) == 1

    # --- whoever uses it is killed ---

    @pytest.mark.parametrize("try_number", [1, 2], ids=["the same attempt", "its retry"])
    @pytest.mark.parametrize("where", KILLED_AT)
    def test_whenever_its_user_is_killed_there_is_one_job(
        self, where: str, try_number: int
    ) -> None:
        def kill(name: str) -> None:
            if name == where:
                raise Killed

        with pytest.raises(Killed), passing(kill):
            self._run(1, "succeeds")
        operator = self._run(try_number, "succeeds")

        assert self._begun_by(operator) == 1
        assert operator.results == [operator.results[0]]

    def test_a_retry_begins_anew_what_had_failed(self) -> None:
        with pytest.raises(AIFlowError, match="failed: "):
            self._run(1, "fails")

        operator = self._run(2, "succeeds")

        assert self._begun_by(operator) == 2
        assert len(operator.results) == 1

    def _run(self, try_number: int, kind: str) -> "ContractOperator":
        with Workflow("contract") as workflow:
            operator = ContractOperator("job", suite=self, kind=kind)
        context = _context(workflow, try_number)
        operator.start(context)
        assert operator.handle is not None
        self.await_end(self.make(), operator.handle)
        operator.await_termination(context)
        return operator

    def _begun_by(self, operator: "ContractOperator") -> int:
        context = _context(operator.workflow, 1)
        return sum(self.begun(job_key(context, number)) for number in (1, 2))


class ContractOperator(JobOperator[Any]):
    """The task of a suite.

    Attributes:
        results: those with which it succeeded.
    """

    def __init__(self, name: str, suite: JobControllerContract, kind: str, **config: Any) -> None:
        super().__init__(name, **config)
        self.suite, self.kind = suite, kind
        self.results: list[Any] = []

    @property
    def handle(self) -> str | None:
        return self._handle

    def controller(self) -> JobController[Any]:
        return self.suite.make()

    def job(self, context: TaskContext) -> Any:
        return self.suite.job(self.kind)

    def succeeded(self, result: Any, context: TaskContext) -> None:
        self.results.append(result)


def _context(workflow: Workflow, try_number: int) -> TaskContext:
    return TaskContext(
        key=AttemptKey(
            workflow_execution_id=1, task_name="job", sequence_number=1, try_number=try_number
        ),
        namespace=workflow.namespace,
        workflow_name=workflow.name,
        workflow=workflow,
    )
