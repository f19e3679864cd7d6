"""What `kill -9` does to servers, zygotes and tasks, and what it does not.

The tasks keep a journal: a line when they begin and one when they end. A task that begins waits
for a file, the gate, so that a test decides when it ends.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from aiflow_core.model.event import Event, EventFilter
from aiflow_notification_server.client import EmbeddedNotificationClient, ListenerProcessor
from aiflow_notification_server.event_store import RemoteEventStore

from .servers import TwoServers, kill, processes_of, quickstart, until

JOURNAL = """\
import os
import time

from aiflow_core import Workflow
from aiflow_core.model.execution import RunningTask
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

FOLDER = {folder!r}


def note(what):
    key = RunningTask.from_environment().key
    line = f"{{key.task_name}} {{key.sequence_number}} {{key.try_number}} {{os.getpid()}} {{what}}"
    file = os.open(f"{{FOLDER}}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{{line}}\\n".encode())
    os.close(file)


def work():
    note("begin")
    while not os.path.exists(f"{{FOLDER}}/gate"):
        time.sleep(0.02)
    note("end")


"""

FIVE_AND_ONE = """\
BASH = '''
echo "bash 1 1 $$ begin" >> {folder}/journal
until [ -e {folder}/gate ]; do sleep 0.1; done
echo "bash 1 1 $$ end" >> {folder}/journal
'''

with Workflow(name="many") as workflow:
    bash = BashOperator(name="bash", bash_command=BASH)
    parallel = [PythonOperator(name=f"python{{i}}", python_callable=work) for i in range(4)]
    last = PythonOperator(name="last", python_callable=work)
    last.start_after([bash, *parallel])
"""
NAMES = {"bash", "python0", "python1", "python2", "python3", "last"}

ONE = """\
with Workflow(name="one") as workflow:
    PythonOperator(name="only", python_callable=work, {options})
"""


@dataclass(frozen=True)
class Entry:
    """A line of the journal."""

    task: str
    sequence_number: int
    try_number: int
    pid: int
    what: str

    @staticmethod
    def parsed(line: str) -> "Entry":
        task, sequence_number, try_number, pid, what = line.split()
        return Entry(task, int(sequence_number), int(try_number), int(pid), what)


@dataclass(frozen=True)
class Journal:
    """What the tasks of a workflow file have done."""

    folder: Path

    def workflow(self, text: str, **options: str) -> Path:
        """The workflow file."""
        file = self.folder / "workflow.py"
        file.write_text((JOURNAL + text).format(folder=str(self.folder), **options))
        return file

    def entries(self, what: str) -> list[Entry]:
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        entries = [
            (task, *map(int, numbers), what) for task, *numbers, what in map(str.split, lines)
        ]
        return [entry for entry in (Entry(*e) for e in entries) if entry.what == what]

    def begun(self, count: int) -> list[Entry]:
        """The tasks that have begun, as soon as there are so many."""
        until(lambda: len(self.entries("begin")) >= count, facts=lambda: self.entries("begin"))
        return self.entries("begin")

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def assert_each_ran_once(self, names: set[str]) -> None:
        for what in ("begin", "end"):
            assert sorted(entry.task for entry in self.entries(what)) == sorted(names)
        pids = {entry.task: entry.pid for entry in self.entries("begin")}
        assert {entry.task: entry.pid for entry in self.entries("end")} == pids


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    root = tmp_path_factory.mktemp("crash")
    with quickstart(root, local_executor_parallelism="2") as servers:
        yield servers


@pytest.fixture
def log(servers: TwoServers) -> Iterator[RemoteEventStore]:
    store = RemoteEventStore(notification_uri(servers))
    yield store
    store.close()


def notification_uri(servers: TwoServers) -> str:
    settings = yaml.safe_load((servers.home / "aiflow_server.yaml").read_text())
    uri: str = settings["notification_server_uri"]
    return uri


def statuses(log: RemoteEventStore, execution: int) -> list[str]:
    """Of the only task, in the order in which it took them."""
    events = log.read(filter=EventFilter(keys=("task_status.one.only",)))
    return [e.value or "" for e in events if e.workflow_execution_id == execution]


@pytest.mark.parametrize(
    "crashed", [["aiflow"], ["notification"], ["aiflow", "notification"]], ids="+".join
)
def test_after_a_crash_running_tasks_are_adopted_and_queued_ones_run(
    servers: TwoServers, journal: Journal, crashed: list[str]
) -> None:
    servers.upload(journal.workflow(FIVE_AND_ONE))
    execution = servers.start("many")
    running = journal.begun(2)

    for program in crashed:
        servers.crash(program)
    for program in reversed(crashed):
        servers.run(f"{program} server start -d")

    assert journal.entries("begin") == running, "two at once were allowed, and these still run"
    journal.open_gate()
    assert servers.ended("many", execution)["status"] == "SUCCESS"
    journal.assert_each_ran_once(NAMES)
    assert sorted(servers.tasks(execution)) == [(name, "SUCCESS") for name in sorted(NAMES)]


def test_tasks_that_end_while_the_server_is_down_are_not_run_again(
    servers: TwoServers, journal: Journal
) -> None:
    servers.upload(journal.workflow(FIVE_AND_ONE))
    execution = servers.start("many")
    running = journal.begun(2)

    servers.crash("aiflow")
    journal.open_gate()
    until(lambda: len(journal.entries("end")) == len(running))
    servers.run("aiflow server start -d")

    assert servers.ended("many", execution)["status"] == "SUCCESS"
    journal.assert_each_ran_once(NAMES)


def test_a_task_outlives_the_zygote_that_forked_it(servers: TwoServers, journal: Journal) -> None:
    servers.upload(journal.workflow(ONE, options=""))
    execution = servers.start("one")
    (task,) = journal.begun(1)

    zygote = psutil.Process(task.pid).parent()
    assert zygote is not None
    assert "aiflow_executor_local.zygote" in zygote.cmdline()
    kill([zygote])
    journal.open_gate()

    assert servers.ended("one", execution)["status"] == "SUCCESS"
    journal.assert_each_ran_once({"only"})


def test_after_the_zygote_was_killed_further_tasks_run(
    servers: TwoServers, journal: Journal
) -> None:
    servers.upload(journal.workflow(FIVE_AND_ONE))
    execution = servers.start("many")
    running = journal.begun(2)

    kill([p for entry in running for p in psutil.Process(entry.pid).parents() if is_zygote(p)])
    journal.open_gate()

    assert servers.ended("many", execution)["status"] == "SUCCESS"
    journal.assert_each_ran_once(NAMES)


def is_zygote(process: psutil.Process) -> bool:
    """Whether it forks tasks, and is not one of those."""
    parent = process.parent()
    return is_of_zygotes(process) and not (parent is not None and is_of_zygotes(parent))


def is_of_zygotes(process: psutil.Process) -> bool:
    return "aiflow_executor_local.zygote" in process.cmdline()


def test_a_killed_task_has_failed_at_once_and_says_by_what(
    servers: TwoServers, journal: Journal, log: RemoteEventStore
) -> None:
    servers.upload(journal.workflow(ONE, options=""))
    execution = servers.start("one")
    (task,) = journal.begun(1)

    os.kill(task.pid, signal.SIGKILL)
    until(lambda: statuses(log, execution)[-1:] == ["FAILED"], seconds=5)

    assert servers.ended("one", execution)["status"] == "FAILED"
    (row,) = servers.rows(f"aiflow task-execution list {execution}")
    assert "killed by signal 9" in row["reason"]


def test_a_killed_task_is_tried_again_when_it_may_be(
    servers: TwoServers, journal: Journal, log: RemoteEventStore
) -> None:
    servers.upload(journal.workflow(ONE, options="retries=1, retry_delay=0.1"))
    execution = servers.start("one")
    (first,) = journal.begun(1)

    os.kill(first.pid, signal.SIGKILL)
    second = journal.begun(2)[-1]
    journal.open_gate()

    assert servers.ended("one", execution)["status"] == "SUCCESS"
    (row,) = servers.rows(f"aiflow task-execution list {execution}")
    assert (row["sequence_number"], row["try_number"]) == (1, 2)
    assert [(e.sequence_number, e.try_number, e.pid) for e in journal.entries("end")] == [
        (1, 2, second.pid)
    ]
    taken = [s for s in statuses(log, execution) if s in ("RETRYING", "SUCCESS")]
    assert taken == ["RETRYING", "SUCCESS"]


def test_tasks_that_went_down_with_the_machine_have_failed(
    servers: TwoServers, journal: Journal
) -> None:
    servers.upload(journal.workflow(ONE, options=""))
    execution = servers.start("one")
    journal.begun(1)

    kill(processes_of(servers.home))
    servers.run("notification server start -d")
    servers.run("aiflow server start -d")

    assert servers.ended("one", execution)["status"] == "FAILED"
    (row,) = servers.rows(f"aiflow task-execution list {execution}")
    assert "vanished without a result" in row["reason"]


class Collected(ListenerProcessor):
    """The values of the events, in the order in which they came."""

    def __init__(self) -> None:
        self.values: list[str | None] = []

    def process(self, events: list[Event]) -> None:
        self.values += [event.value for event in events]


def test_listeners_miss_nothing_when_the_notification_server_crashes(servers: TwoServers) -> None:
    numbers = [str(number) for number in range(200)]
    heard, crashed = Collected(), threading.Event()

    def send(client: EmbeddedNotificationClient) -> None:
        for number in numbers:
            client.send_event(Event("crash_test", number))
            if len(heard.values) >= 20:
                crashed.wait(30)

    with EmbeddedNotificationClient(notification_uri(servers), timeout=30) as client:
        client.register_listener(heard, ["crash_test"])
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        until(lambda: len(heard.values) >= 20)
        servers.crash("notification")
        crashed.set()
        servers.run("notification server start -d")
        sender.join(timeout=30)
        until(lambda: len(heard.values) >= len(numbers), facts=lambda: len(heard.values))
        kept = client.list_events("crash_test")

    assert heard.values == numbers
    assert [event.value for event in kept] == numbers


def test_the_server_waits_for_a_notification_server_that_is_started_later(
    servers: TwoServers, journal: Journal
) -> None:
    servers.run("aiflow server stop")
    servers.run("notification server stop")

    servers.run("aiflow server start -d")
    *_, log = sorted((servers.home / "logs").glob("aiflow_server-*.log"))
    assert "Waiting for the event log" in log.read_text()

    servers.run("notification server start -d")
    servers.upload(journal.workflow(ONE, options=""))
    execution = servers.start("one")
    journal.open_gate()
    assert servers.ended("one", execution)["status"] == "SUCCESS"
