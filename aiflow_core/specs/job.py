"""JobOperator: a task whose work is a job in another system, and JobController, which reaches it.

The process of a task may die at any moment, also between telling the system to begin and being
told that it has. So a job is begun under a key that is known before, and whoever comes after looks
for it by that key. There is no record beside the system's own that could differ from it.
"""

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.deployment import DEPLOYMENT_VARIABLE
from aiflow_core.errors import AIFlowError, UnavailableError, WaitTimeoutError
from aiflow_core.model.serialization import Value
from aiflow_core.specs.operator import Operator, TaskContext

J = TypeVar("J")
T = TypeVar("T")


class JobStatus(StrEnum):
    """What has become of a job; one that waits in its system is RUNNING."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class JobState(Value, frozen=True):
    """The status of a job. `reason` says why it failed, in a line."""

    status: JobStatus
    reason: str = ""


class JobController(ABC, Generic[J]):
    """Reaches the jobs of one system; `J` is what describes a job before it is begun.

    A key names at most one job for ever, also when it has ended and was cleaned up after. It has at
    most 40 characters: lower-case letters, digits and hyphens, a letter first. A handle is the name
    by which the system knows the job; it may be the key.

    Nothing is remembered in the controller that another one, in another process, would not find.

    Errors: `UnavailableError` when the system does not answer, or may not have heard: the same call
    is then repeated. `NotFoundError` for a handle that the system does not know. Whatever else is
    raised makes the task fail.
    """

    @abstractmethod
    def submit(self, key: str, job: J) -> str:
        """Begin the job under the key and return its handle.

        A job that there is under the key is returned, whatever became of it, and none is begun:
        also when two ask at once.
        """

    @abstractmethod
    def adopt(self, key: str) -> str | None:
        """The handle of the job that was begun under the key, None when there never was one.
        Begins nothing."""

    @abstractmethod
    def status(self, handle: str) -> JobState:
        """What has become of the job. What has ended does not change any more."""

    @abstractmethod
    def stop(self, handle: str) -> None:
        """End the job, and return when it is verified gone. One that has ended is left alone."""

    @abstractmethod
    def clean_up(self, handle: str) -> None:
        """Remove what the job used and nobody needs any more. Idempotent.

        That there was the job, how it ended, and its result can still be asked for: whoever was
        killed right after this must not begin it again.
        """

    @abstractmethod
    def result(self, handle: str) -> Any:
        """What the job returned, None when it returns nothing. `ConflictError` unless it ended in
        success."""


class JobOperator(Operator, Generic[J]):
    """A task that is a job in another system.

    Each attempt has a key. The first begins a job. When a process dies, the next attempt takes over
    the job of the one before, if that runs or has succeeded; only when it failed or was stopped
    does it begin another. So give such a task `retries`: without, nobody takes over, and the job
    runs on.

    When the task is asked to stop, the job is stopped. While the system does not answer it is asked
    again, for as long as the task's `timeout` allows.

    Attributes:
        poll_interval: seconds from one look at the job to the next.
        clock: by which it waits.
    """

    poll_interval: float = 1.0
    clock: ClassVar[Clock] = Clock()

    def __init__(self, name: str, **config: Any) -> None:
        super().__init__(name, **config)
        self._controller: JobController[J] | None = None
        self._submission: Future[str] | None = None
        self._handle: str | None = None

    @abstractmethod
    def controller(self) -> JobController[J]:
        """What reaches the system. Called once in each attempt."""

    @abstractmethod
    def job(self, context: TaskContext) -> J:
        """What is to be done, made of the operator's parameters. Called before a job is begun, and
        not when one is taken over."""

    def succeeded(self, result: Any, context: TaskContext) -> None:
        """Called with the job's result; more than once when a process dies meanwhile."""
        if result is not None:
            self.log.info("The result of the job: %s", result)

    # --- what the process of an attempt calls ----------------------------------------------------

    def start(self, context: TaskContext) -> None:
        self._controller = self.controller()
        self._handle = self._taken_over(self._controller, context)
        if self._handle is None:
            self._handle = self._submitted(self._controller, context)

    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        controller, handle = self._begun()
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        while (state := self._status(controller, handle)).status is JobStatus.RUNNING:
            if deadline is not None and self.clock.monotonic() >= deadline:
                raise WaitTimeoutError(f"The job {handle} has not ended in {timeout} s.")
            self._pause()
        if state.status is JobStatus.SUCCESS:
            crash_point("job.result.before")
            self.succeeded(self._asked(lambda: controller.result(handle)), context)
            crash_point("job.result.after")
        self._clean_up(controller, handle)
        if state.status is JobStatus.FAILED:
            raise AIFlowError(f"The job {handle} failed: {state.reason or 'it does not say why'}.")
        if state.status is JobStatus.STOPPED:
            raise AIFlowError(f"The job {handle} was stopped, and not by AIFlow.")

    def stop(self, context: TaskContext) -> None:
        if self._controller is None:
            return
        controller = self._controller
        if self._submission is not None:
            # A job of which nobody knows is worse than waiting until the system has answered.
            self._handle = self._submission.result()
        if self._handle is None:
            self._handle = self._taken_over(controller, context)
        if self._handle is None:
            return
        handle = self._handle
        crash_point("job.stop.before")
        self._asked(lambda: controller.stop(handle))
        crash_point("job.stop.after")
        self._clean_up(controller, handle)

    # --- how -------------------------------------------------------------------------------------

    def _taken_over(self, controller: JobController[J], context: TaskContext) -> str | None:
        """The job of this attempt or of one before it that need not be begun again."""
        for number in range(context.key.try_number, 0, -1):
            key = job_key(context, number)
            handle = self._asked(lambda key=key: controller.adopt(key))  # type: ignore[misc]
            if handle is None:
                continue
            state = self._status(controller, handle)
            if state.status in (JobStatus.RUNNING, JobStatus.SUCCESS):
                self.log.info("Taking over the job %s, which is %s", handle, state.status)
                return handle
        return None

    def _submitted(self, controller: JobController[J], context: TaskContext) -> str:
        key, job = job_key(context), self.job(context)
        # In a thread of its own, so that whoever stops the task interrupts the waiting and not the
        # call; `stop` waits for it.
        pool = ThreadPoolExecutor(1, thread_name_prefix="submit")
        crash_point("job.submit.before")
        self._submission = pool.submit(lambda: self._asked(lambda: controller.submit(key, job)))
        pool.shutdown(wait=False)
        handle = self._submission.result()
        crash_point("job.submit.after")
        self.log.info("The job %s was begun under the key %s", handle, key)
        return handle

    def _status(self, controller: JobController[J], handle: str) -> JobState:
        return self._asked(lambda: controller.status(handle))

    def _clean_up(self, controller: JobController[J], handle: str) -> None:
        crash_point("job.clean_up.before")
        try:
            controller.clean_up(handle)
        except Exception:
            # The job has ended as it has; what is left behind does not change that.
            self.log.exception("The job %s was not cleaned up after", handle)
        crash_point("job.clean_up.after")

    def _begun(self) -> tuple[JobController[J], str]:
        assert self._controller is not None, "`start` comes first"
        assert self._handle is not None
        return self._controller, self._handle

    def _asked(self, call: Callable[[], T]) -> T:
        """The system's answer, waited for."""
        while True:
            try:
                return call()
            except UnavailableError as error:
                self.log.warning("The system does not answer and is asked again: %s", error)
                self._pause()

    def _pause(self) -> None:
        self.clock.wait(threading.Event(), self.poll_interval)


def job_key(context: TaskContext, try_number: int | None = None) -> str:
    """The key of an attempt's job: of this attempt, or of another try of the same task execution.

    It differs between deployments, which count their executions alike.
    """
    attempt = context.key
    if try_number is not None:
        attempt = msgspec.structs.replace(attempt, try_number=try_number)
    parts = (
        os.environ.get(DEPLOYMENT_VARIABLE, ""),
        context.namespace,
        context.workflow_name,
        str(attempt),
    )
    return f"aiflow-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"
