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
    until the task execution has ended."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    position = 0
    while True:
        # Before the log is read: what the task wrote before it ended stands in the log then.
        has_ended = ops.get_task_execution(task_execution_id).status in TASK_FINISHED
        try:
            page = ops.read_task_log(task_execution_id, try_number, position)
        except NotFoundError:
            if not follow or has_ended:
                raise
        else:
            click.echo(decoder.decode(page.data), nl=False)
            position = page.position
            if page.data:
                continue
            if not follow or has_ended:
                return
        patience.clock.wait(threading.Event(), _PAUSE)
