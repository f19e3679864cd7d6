"""The workflows of the load: a file as a user has one, uploaded as it is.

Each attempt of a task appends a line when it begins and one when it ends to a journal that the
engine knows nothing of. `alone` is False when another attempt of the same task still ran: the
kernel lets go of the lock that tells when a process is gone, however it went.
"""

import fcntl
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from aiflow_core import TaskAction, Workflow
from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey, RunningTask
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_python.operator import PythonOperator

JOURNAL_VARIABLE = "AIFLOW_CHAOS_JOURNAL"

# What is killed is tried again for as long as the trouble lasts.
PATIENT = {"retries": 1000, "retry_delay": 0.2}


def step() -> None:
    """Work for a moment."""
    with noted():
        time.sleep(random.uniform(0.0, 0.03))


def wait() -> None:
    """Run until somebody ends it."""
    with noted():
        while True:
            time.sleep(1.0)


def speak() -> None:
    """Send an event to the own execution, sooner or later."""
    with noted(), AIFlowNotificationClient() as client:
        while True:
            try:
                client.send_event("chaos.spoken", "hello")
                return
            except UnavailableError:
                time.sleep(0.1)


@contextmanager
def noted() -> Iterator[None]:
    """Note in the journal that the attempt of this process begins, and that it ends."""
    task = RunningTask.from_environment()
    assert task is not None
    journal = os.environ[JOURNAL_VARIABLE]
    lock = os.open(f"{journal}.lock", os.O_RDWR | os.O_CREAT, 0o600)  # held until the process ends
    note(journal, "begin", task.key, alone=holds(lock, task.key))
    yield
    note(journal, "end", task.key)


def holds(lock: int, key: AttemptKey) -> bool:
    """Take the lock of the task, unless another process has it."""
    name = f"{key.workflow_execution_id}/{key.task_name}"
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        return False
    return True


def note(journal: str, what: str, key: AttemptKey, alone: bool = True) -> None:
    entry = {
        "what": what,
        "execution": key.workflow_execution_id,
        "task": key.task_name,
        "sequence": key.sequence_number,
        "attempt": key.try_number,
        "pid": os.getpid(),
        "ns": time.monotonic_ns(),
        "alone": alone,
    }
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{json.dumps(entry)}\n".encode())
    os.close(file)


with Workflow(name="chain") as chain:
    links = [PythonOperator(f"link{n}", step, **PATIENT) for n in range(40)]
    for before, after in pairwise(links):
        after.start_after(before)

with Workflow(name="fan") as fan:
    root = PythonOperator("root", step, **PATIENT)
    leaves = [PythonOperator(f"leaf{n}", step, **PATIENT) for n in range(200)]
    join = PythonOperator("join", step, **PATIENT)
    for leaf in leaves:
        leaf.start_after(root)
    join.start_after(leaves)

with Workflow(name="tick") as tick:
    PythonOperator("tock", step, **PATIENT)

with Workflow(name="called") as called:
    PythonOperator("answer", step, **PATIENT)

with Workflow(name="switch") as switch:
    lamp = PythonOperator("lamp", wait, **PATIENT)
    lamp.action_on_event_received(TaskAction.START, "chaos.on")
    lamp.action_on_event_received(TaskAction.STOP, "chaos.off")

with Workflow(name="talk") as talk:
    speaker = PythonOperator("speaker", speak, **PATIENT)
    hearer = PythonOperator("hearer", step, **PATIENT)
    hearer.action_on_event_received(TaskAction.START, "chaos.spoken")
