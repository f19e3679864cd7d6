"""At most one process per attempt, and an end of each, wherever one of those involved is killed.

A host holds an executor and is told what a scheduler would tell it. At each crash point in turn the
process that comes there first dies, be it the host, the zygote or the task's own; then the host is
killed too, and another on the same home is told again. The journal, which only tasks write, says
how often each of them began.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import aiflow_executor_local
from aiflow_core import crash
from aiflow_core.bundle import pack
from aiflow_core.model.execution import AttemptKey, AttemptRequest, BundleRef
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.executor import Host, is_running
from aiflow_core.testing.waiting import wait_until

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
        host = Host(
            "aiflow_executor_local.executor:LocalExecutor",
            self.home / "aiflow",
            self._archive,
            {"idle_children": 1},
            environment,
        )
        self.hosts.append(host)
        return host

    def play(self, **environment: str) -> None:
        """A host is killed while a task runs; the next has this environment, takes the task over
        and is given the others; it is killed when all have ended, or one of them ended it."""
        first = self.host()
        first.submit(self.waits)
        wait_until(lambda: self.journal_file.exists(), "the first task begins")
        first.kill()
        second = self.host(**environment)
        for request in self.requests:
            second.submit(request)
        await_ends(second, self.others)
        self.go.touch()
        await_ends(second, self.requests)
        second.kill()

    def journal(self) -> list[str]:
        """The attempt of each task that began."""
        return [line.split()[0] for line in self.journal_file.read_text().splitlines()]

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.journal_file.read_text().splitlines()]


def ends(host: Host) -> dict[AttemptKey, TaskStatus]:
    """The final statuses that it reported."""
    return {r.key: r.status for r in list(host.reports) if r.status in TASK_FINISHED}


def await_ends(host: Host, requests: list[AttemptRequest]) -> None:
    """Return when each has ended, or when the host has."""
    wait_until(
        lambda: host.is_dead or {r.key for r in requests} <= {*ends(host)},
        f"{[str(r.key) for r in requests]} end, not just {host.reports}",
    )


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
    assert ends(scene.hosts[-1]) == {
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
        began = any(report.key == request.key for report in said.reports)
        (last.adopt if began else last.submit)(request)
    await_ends(last, scene.requests)

    assert not last.is_dead
    assert {**ends(last), **ends(said)} == ends(last), "what was said of an end holds"
    journal = scene.journal()
    assert len(journal) == len({*journal}), "no attempt began twice"
    succeeded = {str(key) for key, end in ends(last).items() if end is TaskStatus.SUCCESS}
    assert succeeded <= {*journal}
    wait_until(lambda: not any(map(is_running, scene.pids())), "no task is left")
