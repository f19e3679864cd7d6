"""Reaches the jobs of a Flink cluster by the command line of Flink, and by REST where it may.

The id of a job follows from its key. A cluster refuses a second job of the same id, also when the
first has ended, so that whoever submits twice, or at once with another, begins one.
"""

import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, ConflictError, NotFoundError, UnavailableError
from aiflow_core.programs import Program, telling_line
from aiflow_core.specs.job import JobController, JobState, JobStatus

_STATUSES = {
    "FINISHED": JobStatus.SUCCESS,
    "FAILED": JobStatus.FAILED,
    "CANCELED": JobStatus.STOPPED,
    "SUSPENDED": JobStatus.STOPPED,
}
_LISTED = re.compile(r" : ([0-9a-f]{32}) : .*\(([A-Z]+)\)\s*$", re.MULTILINE)
# The first is that of Flink 1, the second that of Flink 2.
_DUPLICATE = ("DuplicateJobSubmissionException", "DuplicateApplicationSubmissionException")
# What the client says when it was not heard, or does not know whether it was.
_UNHEARD = ("ConnectException", "ConnectTimeoutException", "TimeoutException", "Connection refused")
_PATIENCE = 10.0  # seconds for an answer by REST


@dataclass(frozen=True, kw_only=True)
class FlinkJob:
    """What stands on the command line of `flink run` beside the way to the cluster.

    Attributes:
        options: of the command, such as `-c` and a class.
        application: the jar or Python file.
        args: what the application is given.
    """

    options: tuple[str, ...] = ()
    application: str
    args: tuple[str, ...] = ()


def job_id(key: str) -> str:
    """The id of the job of a key: 32 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class FlinkController(JobController[FlinkJob]):
    """Reaches the jobs of one cluster.

    Args:
        program: the path of `flink`.
        cluster: the options that say which cluster is meant, for every command.
        rest: where the REST interface of the cluster answers, such as `http://localhost:8081`; the
            command line is asked when it is not known.
        with_savepoint: whether a job that is stopped leaves a savepoint.
        savepoints: the directory for it; that of the cluster's configuration unless given.
        poll_interval: seconds from one look at a job that is being stopped to the next.
    """

    clock = Clock()

    def __init__(
        self,
        program: str,
        cluster: Sequence[str] = (),
        rest: str | None = None,
        with_savepoint: bool = False,
        poll_interval: float = 1.0,
        savepoints: str | None = None,
    ) -> None:
        self.program, self.cluster, self.rest = program, tuple(cluster), rest
        self.with_savepoint, self.savepoints = with_savepoint, savepoints
        self.poll_interval = poll_interval

    def submit(self, key: str, job: FlinkJob) -> str:
        id = job_id(key)
        command = [
            *(self.program, "run", "-d", *self.cluster, f"-D$internal.pipeline.job-id={id}"),
            *(*job.options, job.application, *job.args),
        ]
        program = Program(command)
        try:
            code = program.wait()
        except BaseException:
            program.terminate()
            raise
        if code != 0 and not any(word in program.output for word in _DUPLICATE):
            raise _failure("flink run", code, program.output)
        return id

    def adopt(self, key: str) -> str | None:
        id = job_id(key)
        return None if self._state(id) is None else id

    def status(self, handle: str) -> JobState:
        state = self._state(handle)
        if state is None:
            raise NotFoundError(
                "Flink job",
                handle,
                next_step="The cluster was started anew, or has forgotten what ended long ago.",
            )
        status = _STATUSES.get(state, JobStatus.RUNNING)
        if status is not JobStatus.FAILED:
            return JobState(status=status)
        return JobState(status=status, reason=self._reason(handle))

    def stop(self, handle: str) -> None:
        if self.status(handle).status is not JobStatus.RUNNING:
            return
        verb = "stop" if self.with_savepoint else "cancel"
        # `flink stop` does not look for it among the settings.
        where = ["--savepointPath", self.savepoints] if self.savepoints else []
        try:
            self._asked(verb, *(where if self.with_savepoint else ()), handle)
        except UnavailableError:
            raise
        except AIFlowError:
            # It may have ended by itself meanwhile.
            if self.status(handle).status is JobStatus.RUNNING:
                raise
        while self.status(handle).status is JobStatus.RUNNING:
            self.clock.wait(threading.Event(), self.poll_interval)

    def clean_up(self, handle: str) -> None:
        """There is nothing: the cluster forgets a job by itself."""

    def result(self, handle: str) -> Any:
        status = self.status(handle).status
        if status is not JobStatus.SUCCESS:
            raise ConflictError(f"The Flink job {handle} has no result: it is {status}.")
        return None

    def _state(self, id: str) -> str | None:
        """What Flink calls the state of a job, None when it knows no such job."""
        if self.rest is not None:
            job = self._get(f"/jobs/{id}") if re.fullmatch("[0-9a-f]{32}", id) else None
            return None if job is None else str(job["state"])
        return dict(_LISTED.findall(self._asked("list", "-a"))).get(id)

    def _reason(self, id: str) -> str:
        if self.rest is None:
            return "the log of Flink's job manager says why"
        said = self._get(f"/jobs/{id}/exceptions") or {}
        history = said.get("exceptionHistory", {}).get("entries", [])
        traces = [entry.get("stacktrace", "") for entry in history[:1]] + [
            said.get("root-exception") or ""
        ]
        return next(filter(None, map(telling_line, traces)), "Flink does not say why")

    def _asked(self, command: str, *args: str) -> str:
        """What a command printed."""
        done = subprocess.run(
            [self.program, command, *self.cluster, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            raise _failure(f"flink {command}", done.returncode, done.stdout)
        return done.stdout

    def _get(self, path: str) -> Any:
        """The answer by REST, None when there is no such thing."""
        try:
            with urlopen(f"{self.rest}{path}", timeout=_PATIENCE) as answer:
                return json.load(answer)
        except HTTPError as error:
            if error.code == 404:
                return None
            raise UnavailableError(f"{self.rest} answers with {error.code}.") from error
        except (OSError, ValueError) as error:
            raise UnavailableError(f"{self.rest} does not answer: {error}.") from error


def _failure(what: str, code: int, output: str) -> AIFlowError:
    said = telling_line(output) or "it says nothing"
    if any(word in output for word in _UNHEARD):
        return UnavailableError(f"{what} does not reach the cluster: {said}")
    return AIFlowError(f"{what} failed with exit code {code}: {said}")
