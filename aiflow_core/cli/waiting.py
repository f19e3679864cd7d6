"""`--wait` and `--timeout`: commands that return when what they have begun is over."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

import click

from aiflow_core.cli.options import Duration
from aiflow_core.clock import Clock
from aiflow_core.errors import ExecutionFailedError, UsageError, WaitTimeoutError

T = TypeVar("T")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class Patience:
    """How long to look for something.

    Attributes:
        is_wanted: whether to wait at all.
        timeout: seconds; None: as long as it takes.
    """

    is_wanted: bool = True
    timeout: float | None = None
    clock: Clock = field(default_factory=Clock)

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """What `look` returns as soon as that is something; it is asked ever less often.

        `WaitTimeoutError` when `what`, the subject of a sentence, did not happen in time.
        """
        began, pause = self.clock.monotonic(), _FIRST_PAUSE
        while (found := look()) is None:
            if self.timeout is not None:
                left = began + self.timeout - self.clock.monotonic()
                if left <= 0:
                    raise WaitTimeoutError(
                        f"{what} within {self.timeout:g} s.",
                        next_step="Nothing was stopped; it goes on.",
                    )
                pause = min(pause, left)
            self.clock.wait(threading.Event(), pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        return found


def wait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--wait` and `--timeout`, which the command takes together as `patience: Patience`."""

    @wraps(command)
    def with_patience(*args: Any, wait: bool, timeout: float | None, **kwargs: Any) -> Any:
        if timeout is not None and not wait:
            raise UsageError("--timeout says how long to --wait, and nothing else.")
        return command(*args, patience=Patience(wait, timeout), **kwargs)

    with_wait = click.option("--wait", is_flag=True, help="Return when it is over.")
    with_timeout = click.option(
        "--timeout", type=Duration(), help="Wait no longer than this, say 90s; exit code 7 then."
    )
    return with_wait(with_timeout(with_patience))


def wait_for_workflow(execution_id: int, patience: Patience) -> Any:
    """The workflow execution, when it has ended."""
    from aiflow_core import ops
    from aiflow_core.model.status import WORKFLOW_FINISHED

    def look() -> Any:
        found = ops.get_workflow_execution(execution_id)
        return found if found.status in WORKFLOW_FINISHED else None

    return patience.until(look, f"Workflow execution {execution_id} has not ended")


def wait_for_task(task_execution_id: int, patience: Patience) -> Any:
    """The task execution, when it has ended."""
    from aiflow_core import ops
    from aiflow_core.model.status import TASK_FINISHED

    def look() -> Any:
        found = ops.get_task_execution(task_execution_id)
        return found if found.status in TASK_FINISHED else None

    return patience.until(look, f"Task execution {task_execution_id} has not ended")


def check_success(what: str, status: str, reason: str) -> None:
    """Raise `ExecutionFailedError` unless what has ended has ended well."""
    if status != "SUCCESS":
        because = f": {reason.rstrip('.')}" if reason else ""
        raise ExecutionFailedError(f"{what} ended with {status}{because}.")
