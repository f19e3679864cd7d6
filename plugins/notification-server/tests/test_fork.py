"""Tasks run in processes that were forked from one which has imported all this already."""

import subprocess
import sys
from pathlib import Path

from aiflow_core.model.execution import AttemptKey, RunningTask
from aiflow_core.testing.event_store import MemoryEventStore

TASKS = 5

PROGRAM = """
import os, sys, threading
from queue import Queue
import grpc
from aiflow_notification_server.client import AIFlowNotificationClient, ListenerProcessor

class Heard(ListenerProcessor):
    def __init__(self):
        self.keys = Queue()
    def process(self, events):
        for event in events:
            self.keys.put(event.key)

def task(number):
    client = AIFlowNotificationClient("localhost:50052")
    heard = Heard()
    client.register_listener(heard, [f"key-{number}"])
    client.send_event(f"key-{number}")
    assert heard.keys.get(timeout=20) == f"key-{number}"
    if number % 2:
        client.close()  # and the others forget it

children = []
for number in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        task(number)
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def test_forked_processes_send_and_listen_without_a_warning_and_end_by_themselves(
    address: str, log: MemoryEventStore, tmp_path: Path
) -> None:
    task = RunningTask(
        namespace="ns",
        workflow_name="wf",
        key=AttemptKey(workflow_execution_id=1, task_name="t", sequence_number=1),
        notification_uri=address,
    )

    ended = subprocess.run(
        [sys.executable, "-Werror", "-c", PROGRAM, str(TASKS)],
        env=task.to_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.stdout, ended.stderr) == ("done\n", "")
    assert sorted(event.key for event in log.read()) == [f"key-{n}" for n in range(TASKS)]
