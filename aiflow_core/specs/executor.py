"""Executor: runs attempts, and tells what became of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar

from aiflow_core.deployment import Deployment
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.serialization import Value
from aiflow_core.specs.blob_manager import BlobManager

Report = Callable[[AttemptReport], None]
Claim = Callable[[AttemptKey], bool]


def alone(key: AttemptKey) -> bool:
    """The claim where there is no other server: granted. An executor that knows it need not ask."""
    return True


class Load(Value, frozen=True):
    """How busy an executor is: attempts that run, that wait for a place, and may run at once."""

    running: int
    waiting: int
    limit: int


class TellsLoad(ABC):
    """What an executor offers beside its contract when it lets only so many attempts run at once:
    those who ask why an attempt does not begin are told."""

    @abstractmethod
    def load(self) -> Load:
        """How busy it is now. May be called from any thread, and returns at once."""


class Executor(ABC):
    """Runs attempts of tasks, each in a process of its own.

    Everything is idempotent by attempt key, because the scheduler repeats what it is not certain to
    have said. For each submitted attempt the executor reports RUNNING once it runs (it may skip
    this) and then exactly one final status; a report may be repeated. Whatever happens to the
    process (it raises, exits, is killed, never starts), a final report with the reason follows
    without being asked for. Work beyond the executor's capacity waits inside it.

    Constructor keywords are the executor's settings.

    Attributes:
        is_shared: attempts can be watched, adopted and stopped from every server of the deployment,
            as in a cluster, and not only from the one that started them.
    """

    is_shared: ClassVar[bool] = False

    @abstractmethod
    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        blobs: BlobManager,
        report: Report,
        claim: Claim,
    ) -> None:
        """Begin to work, and hang the clean-up on `stack`.

        Unwinding the stack leaves running attempts running: they are adopted by the next start.
        `report` may be called from any thread and returns quickly.

        `claim` is called, from any thread, right before an attempt is started (not when it is
        adopted), and may take as long as a database takes. True: it is this server's to start, also
        when it was before. False: another server has the attempt, or it is over; it is dropped
        without a report. `UnavailableError`: nobody knows yet; it is to be asked again after a
        while.

        Between the claim and the start of an attempt, `deployment.hooks.before_task_start(request=
        ...)` is called, from a thread that may wait for it, and what it returns is added to the
        environment of the attempt's processes. `Veto`: the attempt is reported FAILED with its
        text, and never starts, also not after a restart. An executor that sees what its tasks write
        to their logs tells `deployment.hooks.task_log_line(key=..., line=...)`.
        """

    @abstractmethod
    def renew(self, until: float) -> None:
        """Let attempts that run or will be started go on until a moment of the deployment's
        monotonic clock, and no longer unless this is called again: then the executor ends them by
        force and starts none, also when the process that was to call has died meanwhile. One that
        is shared ends none, but starts none either.

        Never called: there is no limit. This is what makes it safe for another server to give an
        attempt up as lost when it has not heard of this one for long enough.
        """

    @abstractmethod
    def submit(self, request: AttemptRequest) -> None:
        """Run the attempt, unless it was started before; then adopt it as `adopt` does."""

    @abstractmethod
    def adopt(self, request: AttemptRequest) -> None:
        """Take over an attempt that was reported RUNNING before a restart.

        Still running: watch it, and report its end. Ended: report how. Vanished without a result:
        report FAILED, saying so. Never start it a second time.
        """

    @abstractmethod
    def stop(self, key: AttemptKey) -> None:
        """End the attempt: gracefully, then by force. Reports STOPPED when all its processes are
        verified gone (or the final status that it reached by itself before). An attempt that waits
        is reported STOPPED at once; so is one that is not known here."""

    @abstractmethod
    def stop_all(self) -> None:
        """End all attempts, and return when they are gone and reported: a report that came later
        could be taken for one of an attempt that is submitted again. For a deployment that ends for
        good, and for a server that the others have given up."""

    # --- what is left of attempts -----------------------------------------------------------------

    def executions(self) -> set[int]:
        """The ids of the workflow executions of whose attempts something is kept on this machine,
        whether they run or have ended. An executor that keeps nothing need not define this."""
        return set()

    def forget(self, workflow_execution_id: int) -> None:  # noqa: B027  (see `executions`)
        """Remove what is kept of the attempts of a workflow execution that has ended and been
        deleted: no key of it comes again. Nothing happens while one of them still runs, or where
        nothing is kept."""
