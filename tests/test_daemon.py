"""Servers as processes: each test runs real ones."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core.daemon import Daemon, NotRunningError
from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    ConflictError,
    NoRoomError,
    WaitTimeoutError,
)

SERVER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from aiflow_core.daemon import Daemon
from aiflow_core.errors import ConfigError

def start(stack):
    stack.callback(lambda: Path(sys.argv[1]).with_name("unwound").touch())
    {body}

Daemon(name="Test server", pid_file=Path(sys.argv[1]), command="test server").run(start)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(
        name="Test server", pid_file=tmp_path / "home" / "test.pid", command="test server"
    )
    yield daemon
    pid = daemon.pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def start(daemon: Daemon, body: str = "pass", timeout: float = 30) -> int:
    argv = [sys.executable, "-c", SERVER.format(body=body), str(daemon.pid_file)]
    return daemon.start_detached(argv, daemon.pid_file.with_name("log"), timeout=timeout)


def log(daemon: Daemon) -> str:
    return daemon.pid_file.with_name("log").read_text()


def unwound(daemon: Daemon) -> bool:
    return daemon.pid_file.with_name("unwound").exists()


def test_a_server_is_started_and_stopped(daemon: Daemon) -> None:
    assert daemon.pid() is None

    pid = start(daemon)

    assert daemon.pid() == pid
    assert daemon.pid_file.read_text() == f"{pid}\n"
    assert os.getsid(pid) == pid
    assert daemon.stop() == pid
    assert daemon.pid() is None
    assert not daemon.pid_file.exists()
    assert unwound(daemon)
    assert log(daemon) == ""


def test_a_server_that_runs_is_not_started_again(daemon: Daemon) -> None:
    start(daemon)

    with pytest.raises(ConflictError, match="is running, stop it first with 'test server stop'"):
        start(daemon)


def test_a_second_server_does_not_get_past_the_lock(daemon: Daemon) -> None:
    start(daemon)
    argv = [sys.executable, "-c", SERVER.format(body="pass"), str(daemon.pid_file)]

    second = subprocess.run(argv, capture_output=True, text=True, timeout=30)

    assert second.returncode == 1
    assert "is running, stop it first" in second.stderr
    assert daemon.pid() is not None


def test_a_server_that_does_not_run_cannot_be_stopped(daemon: Daemon) -> None:
    with pytest.raises(NotRunningError, match=r"PID file of Test server does not exist at .*pid"):
        daemon.stop()


def test_the_file_of_a_killed_server_is_in_nobodys_way(daemon: Daemon) -> None:
    pid = start(daemon)
    # This process is its parent and does not wait for it: what is left is a zombie.
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert daemon.pid_file.exists()
    assert daemon.pid() is None
    again = start(daemon)
    assert daemon.stop() == again
    os.waitpid(pid, 0)


def test_a_recycled_pid_is_not_taken_for_the_server(daemon: Daemon) -> None:
    daemon.pid_file.parent.mkdir()
    daemon.pid_file.write_text(f"{os.getpid()}\n")

    assert daemon.pid() is None
    with pytest.raises(NotRunningError):
        daemon.stop()
    assert start(daemon) != os.getpid()


def test_the_starter_raises_what_kept_the_server_from_starting(daemon: Daemon) -> None:
    with pytest.raises(ConfigError, match=r"The moon is wrong\. Turn it\."):
        start(daemon, "raise ConfigError('The moon is wrong.', next_step='Turn it.')")

    assert daemon.pid() is None
    assert unwound(daemon)


def test_the_starter_repeats_the_last_words_of_a_server_that_dies(daemon: Daemon) -> None:
    with pytest.raises(AIFlowError, match=r"did not start: ZeroDivisionError.*Its log is"):
        start(daemon, "1 / 0")

    with pytest.raises(AIFlowError, match="did not start"):
        start(daemon, "import os; os._exit(3)")


def test_a_server_that_is_not_ready_in_time_is_ended(daemon: Daemon) -> None:
    with pytest.raises(WaitTimeoutError, match=r"was not ready after 0\.5 seconds"):
        start(daemon, "import threading; threading.Event().wait()", timeout=0.5)

    assert daemon.pid() is None


def test_a_server_that_does_not_stop_is_told_of(daemon: Daemon) -> None:
    body = "import threading; stack.callback(threading.Event().wait)"
    pid = start(daemon, body)

    with pytest.raises(WaitTimeoutError, match=f"`kill -9 {pid}`"):
        daemon.stop(timeout=0.3)


def test_a_process_that_the_server_starts_does_not_keep_the_starter_waiting(
    daemon: Daemon,
) -> None:
    body = (
        "import os, signal; child = os.fork() or signal.pause(); stack.callback(os.kill, child, 9)"
    )
    pid = start(daemon, body)

    assert daemon.stop() == pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_in_the_foreground_ends_gracefully(daemon: Daemon, number: int) -> None:
    body = "print('up', flush=True)"
    argv = [sys.executable, "-c", SERVER.format(body=body), str(daemon.pid_file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == 0

    assert unwound(daemon)
    assert not daemon.pid_file.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_under_the_pid_file_is_said_to_be_full(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", full)

    with pytest.raises(NoRoomError, match=r"test\.pid cannot be written.*Make room"):
        daemon.run(lambda stack: pytest.fail("it has started"))
    assert not daemon.pid_file.exists()


def test_a_home_in_which_nobody_may_write_is_named(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(ConfigError, match=r"test\.pid cannot be written: Permission denied"):
        daemon.run(lambda stack: pytest.fail("it has started"))
