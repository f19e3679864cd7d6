"""The job system in memory keeps the contract of job controllers, and the contract finds out
controllers that do not: each of these breaks one promise, and is caught by the test beside it."""

import inspect
import threading
from typing import Any

import pytest

from aiflow_core.errors import NotFoundError
from aiflow_core.specs.job import JobController, JobState, JobStatus
from aiflow_core.testing.job import JobControllerContract, MemoryJobController, MemoryJobs


class MemoryJobsContract(JobControllerContract):
    cls: type[MemoryJobController] = MemoryJobController

    @pytest.fixture(autouse=True)
    def _system(self) -> None:
        self.jobs = MemoryJobs()

    def make(self) -> JobController[Any]:
        return self.cls(self.jobs)

    def job(self, kind: str) -> str:
        return kind

    def begun(self, key: str) -> int:
        return self.jobs.begun.count(key)

    def is_running(self, handle: str) -> bool:
        return self.jobs.states[handle].status is JobStatus.RUNNING


class TestMemoryJobs(MemoryJobsContract):
    def test_what_a_job_used_is_gone_after_the_clean_up(self) -> None:
        controller = self.make()
        handle = controller.submit("key", "succeeds")
        assert self.jobs.files == {handle}

        controller.clean_up(handle)

        assert not self.jobs.files


class BeginsEachTime(MemoryJobController):
    def submit(self, key: str, job: str) -> str:
        return self.jobs.begin(key, job)


class LooksAndThenBegins(MemoryJobController):
    together = threading.Barrier(8)

    def submit(self, key: str, job: str) -> str:
        found = self.adopt(key)
        self.together.wait()
        return found or self.jobs.begin(key, job)


class RemembersByItself(MemoryJobController):
    def __init__(self, jobs: MemoryJobs) -> None:
        super().__init__(jobs)
        self.mine: dict[str, str] = {}

    def adopt(self, key: str) -> str | None:
        return self.mine.get(key)

    def submit(self, key: str, job: str) -> str:
        if key not in self.mine:
            self.mine[key] = self.jobs.begin(key, job)
        return self.mine[key]


class AdoptsTheLatest(MemoryJobController):
    def adopt(self, key: str) -> str | None:
        return next(reversed(self.jobs.states), None)


class BeginsWhatItShouldAdopt(MemoryJobController):
    def adopt(self, key: str) -> str | None:
        return super().adopt(key) or self.jobs.begin(key, "runs")


class BeginsWhatHasEnded(MemoryJobController):
    def adopt(self, key: str) -> str | None:
        running = (h for h, s in self.jobs.states.items() if s.status is JobStatus.RUNNING)
        return next((h for h in running if h.startswith(key)), None)


class ForgetsWhatItCleanedUp(MemoryJobController):
    def clean_up(self, handle: str) -> None:
        self.jobs.states.pop(handle, None)


class OnlyAsksToStop(MemoryJobController):
    def stop(self, handle: str) -> None:
        self.status(handle)


class StopsWhatHasEnded(MemoryJobController):
    def stop(self, handle: str) -> None:
        self.status(handle)
        self.jobs.states[handle] = JobState(status=JobStatus.STOPPED)


class SaysNotWhy(MemoryJobController):
    def status(self, handle: str) -> JobState:
        return JobState(status=super().status(handle).status)


class TakesTheUnknownForGone(MemoryJobController):
    def status(self, handle: str) -> JobState:
        return self.jobs.states.get(handle, JobState(status=JobStatus.STOPPED))


class HasAResultForAll(MemoryJobController):
    def result(self, handle: str) -> Any:
        return self.status(handle).reason


ONE_JOB = "whenever_its_user_is_killed_there_is_one_job"
AFTER_SUBMIT = {"where": "job.submit.after", "try_number": 2}


@pytest.mark.parametrize(
    ("controller", "test", "arguments"),
    [
        (BeginsEachTime, "a_key_that_was_submitted_is_not_begun_again", {}),
        (LooksAndThenBegins, "of_many_that_submit_at_once_one_begins_the_job", {}),
        (RemembersByItself, "a_running_job_is_adopted_by_its_key", {}),
        (RemembersByItself, ONE_JOB, AFTER_SUBMIT),
        (RemembersByItself, ONE_JOB, {"where": "job.submit.after", "try_number": 1}),
        (AdoptsTheLatest, "a_key_without_a_job_has_none_to_adopt", {}),
        (BeginsWhatItShouldAdopt, "a_key_without_a_job_has_none_to_adopt", {}),
        (BeginsWhatHasEnded, "what_has_ended_is_not_begun_again", {"kind": "fails"}),
        (BeginsWhatHasEnded, ONE_JOB, AFTER_SUBMIT),
        (ForgetsWhatItCleanedUp, "what_was_cleaned_up_after_is_still_known", {}),
        (ForgetsWhatItCleanedUp, ONE_JOB, {"where": "job.clean_up.after", "try_number": 2}),
        (OnlyAsksToStop, "a_job_that_was_stopped_is_gone", {}),
        (StopsWhatHasEnded, "stopping_again_changes_nothing", {}),
        (SaysNotWhy, "a_job_that_fails_says_why", {}),
        (TakesTheUnknownForGone, "an_unknown_job_is_not_found", {}),
        (HasAResultForAll, "what_did_not_succeed_has_no_result", {}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_broken_controller_is_caught(
    controller: type[MemoryJobController], test: str, arguments: dict[str, Any]
) -> None:
    class Suite(MemoryJobsContract):
        cls = controller

    suite = Suite()
    suite.jobs = MemoryJobs()
    method = getattr(suite, f"test_{test}")
    if "controller" in inspect.signature(method).parameters:
        arguments = {**arguments, "controller": suite.make()}

    # `fail.Exception` is for the error that should have been raised and was not.
    with pytest.raises((AssertionError, NotFoundError, pytest.fail.Exception)):
        method(**arguments)
