"""What `aiflow task-execution logs` prints: the log of an attempt, piece by piece."""

import codecs
import threading

import click

from aiflow_core import ops
from aiflow_core.cli.waiting import Patience
from aiflow_core.errors import NotFoundError
from aiflow_core.model.status import TASK_FINISHED

_PAUSE = 0.3


def print_log(
    task_execution_id: int, try_number: int | None, follow: bool, patience: Patience
) -> None:
    """Print the log of an attempt (None: of the latest), and, if wanted, what is written to it
    until the attempt has ended; then that of the next ones, unless one attempt was asked for."""
    attempt = try_number or ops.get_task_execution(task_execution_id).try_number
    while True:
        _print_attempt(task_execution_id, attempt, follow, patience)
        if not follow or try_number is not None:
            return
        if ops.get_task_execution(task_execution_id).try_number == attempt:
            return
        attempt += 1


def _print_attempt(task_execution_id: int, attempt: int, follow: bool, patience: Patience) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    position = 0
    while True:
        # Before the log is read: what the attempt wrote before it ended stands in the log then.
        task = ops.get_task_execution(task_execution_id)
        goes_on = follow and task.status not in TASK_FINISHED and task.try_number == attempt
        try:
            page = ops.read_task_log(task_execution_id, attempt, position)
        except NotFoundError:
            if not goes_on:
                raise
        else:
            click.echo(decoder.decode(page.data), nl=False)
            position = page.position
            if page.data:
                continue
            if not goes_on:
                return
        patience.clock.wait(threading.Event(), _PAUSE)
