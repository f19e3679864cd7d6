"""What `aiflow workflow-execution watch` shows: an execution of a server, asked again and again."""

import sys
from collections.abc import Iterator

from aiflow_core import ops
from aiflow_core.cli.progress import view
from aiflow_core.cli.running import Change
from aiflow_core.cli.waiting import Patience
from aiflow_core.clock import Clock
from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_core.model.status import WORKFLOW_FINISHED


class Watched:
    """One workflow execution as it was last seen; what a view of `progress` shows."""

    def __init__(self, execution_id: int, clock: Clock) -> None:
        self._clock = clock
        self._began = self._clock.monotonic()
        self._id = execution_id
        self.workflows: dict[int, str] = {}
        self.executions: dict[int, WorkflowExecution] = {}
        self.tasks: dict[int, TaskExecution] = {}

    def look(self) -> Iterator[Change]:
        """Ask the server; what is not as it was."""
        # The execution first: what it has ended with, its tasks have ended before.
        execution = ops.get_workflow_execution(self._id)
        for task in ops.list_task_executions(self._id):
            if self.tasks.get(task.id) != task:
                self.tasks[task.id] = task
                yield task
        if self.executions.get(self._id) != execution:
            self.executions[self._id] = execution
            yield execution

    @property
    def execution(self) -> WorkflowExecution:
        return self.executions[self._id]

    @property
    def elapsed(self) -> float:
        """Seconds since the watching began."""
        return self._clock.monotonic() - self._began

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self._clock.now_ms()


def watch(execution_id: int, patience: Patience) -> WorkflowExecution:
    """Show the execution until it has ended, and return it as it is then.

    `WaitTimeoutError` when that is not within the patience.
    """
    watched = Watched(execution_id, patience.clock)
    with view(sys.stdout) as shown:

        def look() -> WorkflowExecution | None:
            for change in watched.look():
                shown.change(watched, change)
            shown.refresh(watched)
            return watched.execution if watched.execution.status in WORKFLOW_FINISHED else None

        return patience.until(look, f"Workflow execution {execution_id} has not ended")
