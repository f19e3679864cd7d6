"""At most one process per attempt, and an end of each, wherever one of those involved is killed.

A host holds an executor and is told what a scheduler would tell it. At each crash point in turn the
process that comes there first dies, be it the host, the zygote or the task's own; then the host is
killed too, and another on the same home is told again. The journal, which only tasks write, says
how often each of them began.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import aiflow_executor_local
from aiflow_core import crash
from aiflow_core.bundle import pack
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest, BundleRef
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.executor import DEADLINE, is_running, wait_until

HOST = """
import sys
from contextlib import ExitStack
from pathlib import Path
from aiflow_core.deployment import Deployment
from aiflow_core.model.execution import AttemptRequest
from aiflow_core.model.serialization import decode, encode
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.executor import alone
from aiflow_executor_local.executor import LocalExecutor

home, blobs = Path(sys.argv[1]), MemoryBlobManager()
blobs.upload(sys.argv[2])
executor = LocalExecutor(idle_children=1)
executor.start(
    ExitStack(),
    Deployment(home=home, log_dir=home / "logs", notification_uri=""),
    blobs,
    lambda report: print(encode(report).decode(), flush=True),
    alone,
)
for line in sys.stdin:
    how, _, request = line.partition(" ")
    getattr(executor, how)(decode(request, AttemptRequest))
"""

FLOW = """
import os, time
from pathlib import Path
from aiflow_core import Operator, Workflow

class Task(Operator):
    def start(self, context):
        journal = os.open({journal!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(journal, f"{{context.key}} {{os.getpid()}}\\n".encode())
        until = time.monotonic() + 60
        while self.name == "waits" and not Path({go!r}).exists():
            assert time.monotonic() < until
            time.sleep(0.005)
        if self.name == "leaves":
            os._exit(3)

with Workflow("crash") as workflow:
    for name in ("waits", "quick", "fresh", "leaves"):
        Task(name)
"""

# Loaded by every Python that is started: notes the crash points that it passes.
RECORDER = """
import os
from aiflow_core import crash

def note(name):
    with open(os.environ["PASSED"], "a") as file:
        file.write(name + "\\\\n")

crash._handler = note
"""


def crash_points() -> list[str]:
    """All that stand in the sources of the executor."""
    sources = Path(aiflow_executor_local.__file__).parent.glob("*.py")
    text = "".join(source.read_text() for source in sources)
    return sorted(re.findall(r'crash_point\("([^"]+)"\)', text))


class Host:
    """Another process that holds an executor, and what it reported."""

    def __init__(self, home: Path, archive: Path, environment: dict[str, str]) -> None:
        self.reports: list[AttemptReport] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOST, str(home / "aiflow"), str(archive)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def tell(self, how: str, request: AttemptRequest) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{how} {encode(request).decode()}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            assert self.is_dead

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def finals(self) -> dict[AttemptKey, TaskStatus]:
        return {r.key: r.status for r in list(self.reports) if r.status in TASK_FINISHED}

    def await_finals(self, requests: list[AttemptRequest]) -> None:
        """Return when each has ended, or when the host has."""
        wait_until(
            lambda: self.is_dead or {r.key for r in requests} <= {*self.finals()},
            f"{[str(r.key) for r in requests]} end, not just {self.reports}",
        )

    def kill(self) -> None:
        self._process.kill()
        assert self._process.stdin is not None
        with self._process:  # closes the pipes
            self._reader.join(DEADLINE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.reports.append(decode(line, AttemptReport))


class Scene:
    """Attempts that end in every way there is, told to one host after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.go, self.journal_file = home / "go", home / "journal"
        source = home / "flow.py"
        source.write_text(FLOW.format(journal=str(self.journal_file), go=str(self.go)))
        archive, reference = pack(source, [], home)
        self._archive = archive
        bundle = msgspec.structs.replace(reference, uri=MemoryBlobManager().upload(archive))
        self.waits = self._request("waits", bundle)
        self.others = [
            self._request("quick", bundle),
            self._request("fresh", bundle, isolation="fresh"),
            self._request("leaves", bundle),
            self._request("homeless", None),
        ]
        self.requests = [self.waits, *self.others]
        self.hosts: list[Host] = []

    def _request(
        self, name: str, bundle: BundleRef | None, isolation: str = "forked"
    ) -> AttemptRequest:
        return AttemptRequest(
            key=AttemptKey(workflow_execution_id=1, task_name=name, sequence_number=1),
            namespace="default",
            workflow_name="crash",
            task=TaskDefinition(name=name, config=TaskConfig(isolation=isolation)),
            bundle=bundle,
        )

    def host(self, **environment: str) -> Host:
        host = Host(self.home, self._archive, environment)
        self.hosts.append(host)
        return host

    def play(self, **environment: str) -> None:
        """A host is killed while a task runs; the next has this environment, takes the task over
        and is given the others; it is killed when all have ended, or one of them ended it."""
        first = self.host()
        first.tell("submit", self.waits)
        wait_until(lambda: self.journal_file.exists(), "the first task begins")
        first.kill()
        second = self.host(**environment)
        for request in self.requests:
            second.tell("submit", request)
        second.await_finals(self.others)
        self.go.touch()
        second.await_finals(self.requests)
        second.kill()

    def journal(self) -> list[str]:
        """The attempt of each task that began."""
        return [line.split()[0] for line in self.journal_file.read_text().splitlines()]

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.journal_file.read_text().splitlines()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.go.touch()
    for host in scene.hosts:
        host.kill()


def test_every_crash_point_is_passed_when_nothing_crashes(scene: Scene, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(RECORDER.replace("\\\\", "\\"))
    passed = tmp_path / "passed"

    scene.play(PYTHONPATH=str(site), PASSED=str(passed))

    assert {*passed.read_text().split()} == {*crash_points()}
    assert sorted(scene.journal()) == [
        "1_fresh_1.1",
        "1_leaves_1.1",
        "1_quick_1.1",
        "1_waits_1.1",
    ]
    assert scene.hosts[-1].finals() == {
        scene.waits.key: TaskStatus.SUCCESS,
        scene.others[0].key: TaskStatus.SUCCESS,
        scene.others[1].key: TaskStatus.SUCCESS,
        scene.others[2].key: TaskStatus.FAILED,
        scene.others[3].key: TaskStatus.FAILED,
    }


@pytest.mark.parametrize("name", crash_points())
def test_no_attempt_begins_twice_and_each_has_an_end(scene: Scene, name: str) -> None:
    scene.play(**{crash.VARIABLE: name})
    said = scene.hosts[-1]

    last = scene.host()
    for request in scene.requests:
        began = any(r.key == request.key for r in said.reports)
        last.tell("adopt" if began else "submit", request)
    last.await_finals(scene.requests)

    assert not last.is_dead
    finals = last.finals()
    assert {**finals, **said.finals()} == finals, "what was said of an end holds"
    journal = scene.journal()
    assert len(journal) == len({*journal}), "no attempt began twice"
    assert {str(key) for key, end in finals.items() if end is TaskStatus.SUCCESS} <= {*journal}
    wait_until(lambda: not any(map(is_running, scene.pids())), "no task is left")
