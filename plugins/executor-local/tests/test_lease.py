"""The lease where it counts: with processes that are killed or stopped, in real time."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from aiflow_core.bundle import fetch
from aiflow_core.clock import Clock
from aiflow_core.model.execution import AttemptReport, AttemptRequest
from aiflow_core.model.serialization import decode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.testing.executor import DEADLINE, Host, Stage, is_running
from aiflow_core.testing.waiting import wait_until
from aiflow_executor_local.executor import LocalExecutor
from aiflow_executor_local.lease import LOST, Deadline
from aiflow_executor_local.messages import Job, Notice, Ready, Renewal, Warmup, line
from aiflow_executor_local.run_directory import RunDirectory

LIMIT = 1.0
# What a busy machine may take to start a task, or to kill one.
MARGIN = 2.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(LocalExecutor, tmp_path)
    yield stage
    stage.let_go()
    stage.executor.stop_all()
    stage.leave()


@pytest.fixture
def host(stage: Stage) -> Iterator[Host]:
    host = Host(
        "aiflow_executor_local.executor:LocalExecutor",
        stage.home / "aiflow",
        next((stage.home / "source").glob("*.zip")),
    )
    yield host
    host.kill()


def keep_running(host: Host, until: Callable[[], object]) -> None:
    """Renew the lease of the host as long as that takes."""

    def renewed() -> bool:
        host.renew(LIMIT)
        return bool(until())

    wait_until(renewed, "it happens while the lease is renewed")


def begin(stage: Stage, host: Host, *requests: AttemptRequest) -> list[int]:
    """Let the host run them under its lease; the processes that they are."""
    before = stage.pids()
    for request in requests:
        host.submit(request)
    keys = {str(request.key) for request in requests}
    keep_running(host, lambda: keys <= {text.split()[1] for text in stage.journal("start")})
    return [pid for pid in stage.pids() if pid not in before]


def result(stage: Stage, request: AttemptRequest) -> AttemptReport:
    """What the next executor on the same home finds."""
    stage.executor.adopt(request)
    return stage.final(request)


def job(stage: Stage, request: AttemptRequest) -> bytes:
    home = stage.home / "aiflow"
    return line(
        Job(
            request=request,
            home=str(home),
            log_dir=str(home / "logs"),
            notification_uri="",
            snapshot=str(fetch(home, stage.bundle, stage.blobs)),
        )
    )


def zygote_of(pid: int) -> psutil.Process:
    parent = psutil.Process(pid).parent()
    assert parent is not None
    return parent


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
def test_tasks_end_with_the_lease_of_a_server_that_is_gone_or_stands_still(
    stage: Stage, host: Host, number: int
) -> None:
    requests = [stage.request("waits"), stage.request("stubborn"), stage.request("family")]
    begin(stage, host, *requests)
    keep_running(host, lambda: len(stage.journal("start child")) == 2)
    renewed = time.monotonic()

    host.send_signal(number)

    assert all(map(is_running, stage.pids()))
    wait_until(lambda: not any(map(is_running, stage.pids())), "all are gone")
    assert time.monotonic() - renewed < LIMIT + MARGIN
    for request in requests:
        report = result(stage, request)
        assert (report.status, report.reason) == (TaskStatus.FAILED, LOST)


def test_a_zygote_that_starts_later_knows_the_lease(stage: Stage, host: Host) -> None:
    # Once, and for long enough to start the first zygote.
    host.renew(5 * LIMIT)
    request = stage.request("waits")
    host.submit(request)
    stage.await_journal("start")

    host.kill()

    assert all(map(is_running, stage.pids()))
    wait_until(lambda: not any(map(is_running, stage.pids())), "it is gone")
    assert result(stage, request).reason == LOST


def test_what_another_executor_takes_over_lives_by_its_lease(stage: Stage, host: Host) -> None:
    taken, left = stage.request("waits", 1), stage.request("waits", 2)
    pids = begin(stage, host, taken, left)
    host.kill()

    stage.renew(DEADLINE)
    stage.executor.adopt(taken)

    wait_until(lambda: sum(map(is_running, pids)) == 1, "the other ends with the old lease")
    assert stage.statuses(taken) == [TaskStatus.RUNNING]
    assert result(stage, left).reason == LOST
    stage.clock.advance(2 * DEADLINE)
    assert stage.final(taken).reason == LOST
    assert not any(map(is_running, pids))


def test_what_has_no_lease_gets_that_of_the_executor_that_takes_it_over(
    stage: Stage, host: Host
) -> None:
    request = stage.request("waits")
    host.submit(request)
    stage.await_journal("start")
    host.kill()
    second = Host(
        "aiflow_executor_local.executor:LocalExecutor",
        stage.home / "aiflow",
        next((stage.home / "source").glob("*.zip")),
    )
    second.adopt(request)
    second.renew(LIMIT)
    wait_until(lambda: second.reports, "it is taken over")

    second.kill()

    wait_until(lambda: not any(map(is_running, stage.pids())), "it ends with the lease")
    assert result(stage, request).reason == LOST


def test_a_zygote_that_was_paused_ends_first_what_is_over(stage: Stage, host: Host) -> None:
    flow = (stage.home / "source" / "flow.py").read_text()
    other = stage.make_bundle(f"{flow}\n# of another zygote\n")
    fetch(stage.home / "aiflow", other, stage.blobs)
    pids = begin(stage, host, stage.request("waits", 1))
    witness = stage.request("waits", 2, bundle=other)
    witnesses = begin(stage, host, witness)
    zygote = zygote_of(pids[0])
    assert zygote != zygote_of(witnesses[0])
    zygote.suspend()
    host.kill()
    wait_until(lambda: not any(map(is_running, witnesses)), "the lease ends")
    assert all(map(is_running, pids))

    zygote.resume()

    wait_until(lambda: not any(map(is_running, pids)), "what is over ends")
    assert result(stage, stage.request("waits", 1)).reason == LOST


def test_a_zygote_that_was_paused_believes_what_was_renewed_meanwhile(
    stage: Stage, host: Host
) -> None:
    request = stage.request("waits")
    pids = begin(stage, host, request)
    zygote = zygote_of(pids[0])
    zygote.suspend()
    late = time.monotonic() + 1.5 * LIMIT
    keep_running(host, lambda: time.monotonic() > late)

    zygote.resume()

    stage.let_go()
    keep_running(host, lambda: any(r.status in TASK_FINISHED for r in host.reports))
    assert host.reports[-1].status is TaskStatus.SUCCESS


@pytest.mark.parametrize("is_late", [True, False], ids=["late", "in time"])
def test_a_process_that_slept_does_not_begin_after_its_time(stage: Stage, is_late: bool) -> None:
    ours, theirs = socket.socketpair()
    deadline = Deadline.create()
    deadline.set(Clock().monotonic() + (-0.001 if is_late else DEADLINE))
    request = stage.request("quick")
    inherited = theirs.fileno(), deadline.descriptor
    command = [sys.executable, "-P", "-m", "aiflow_executor_local.runner"]
    with ours, theirs:
        child = subprocess.Popen(
            [*command, *map(str, inherited), str(stage.home / "aiflow")],
            pass_fds=inherited,
            start_new_session=True,
        )
        ours.sendall(job(stage, request))
        child.wait(DEADLINE)

    report = RunDirectory(stage.home / "aiflow", request.key).result()
    assert report is not None
    if is_late:
        assert (report.status, report.reason) == (TaskStatus.FAILED, LOST)
        assert not stage.journal()
    else:
        assert report.status is TaskStatus.SUCCESS


def test_a_zygote_does_not_wait_for_an_executor_that_does_not_listen(stage: Stage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-P", "-m", "aiflow_executor_local.zygote"]
        settings = [str(stage.home / "aiflow"), "2", "keep", "10", "300"]
        subprocess.run(
            [*command, str(theirs.fileno()), *settings], pass_fds=[theirs.fileno()], check=True
        )
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.close()
        answers = ours.makefile("rb")
        snapshot = fetch(stage.home / "aiflow", stage.bundle, stage.blobs)
        ours.sendall(line(Warmup(snapshot=str(snapshot), entry="flow.py")))
        assert decode(answers.readline(), Ready) == Ready()
        now = Clock().monotonic()
        ours.sendall(line(Renewal(at=now, until=now + DEADLINE)))
        ours.sendall(job(stage, stage.request("waits")))
        stage.await_journal("start")
        # More reports than the socket holds: each fails, and says why at length.
        unknown = TaskDefinition(
            name="fails", operator="bash", params={"x" * 1900: "", "bash_command": ""}
        )
        failing = [replace(stage.request("fails", number), task=unknown) for number in range(20)]
        for request in failing:
            ours.sendall(job(stage, request))
        runs = [RunDirectory(stage.home / "aiflow", request.key) for request in failing]
        wait_until(lambda: all(run.result() for run in runs), "all of these fail")

        now = Clock().monotonic()
        ours.sendall(line(Renewal(at=now, until=now)))

        wait_until(lambda: not any(map(is_running, stage.pids())), "the lease ends")
        # Nothing of what it wanted to say is lost: of each, that it ran and that it ended.
        reports = [decode(answers.readline(), Notice).report for _ in range(2 + 2 * len(failing))]
        assert len({report.key for report in reports}) == 1 + len(failing)
        assert sum(len(report.reason) for report in reports) > 10 * 1900
        assert [report.reason for report in reports].count(LOST) == 1
