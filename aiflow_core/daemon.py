"""Servers as processes: run one, start one in the background, stop it, ask for it.

A server holds a lock on its pid file for as long as it lives. The kernel lets go of the lock when
the process is gone, however it went; so a file that a crash left behind blocks no start, and a
recycled pid is never taken for the server. Processes that the server forks do not inherit the lock.
"""

import errno
import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from aiflow_core.clock import Clock
from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    ConflictError,
    NoRoomError,
    NotFoundError,
    WaitTimeoutError,
)

_READY_FD = "AIFLOW_READY_FD"

# A look at the lock holds it for a moment; a starter is not put off by that.
_PATIENCE = 0.5
_POLL = 0.02
_LOOK = 1.0


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A server that can run in the background.

    Attributes:
        name: how it is called in messages, as "AIFlow server".
        pid_file: where its pid stands while it runs.
        command: what starts and stops it, as "aiflow server".
    """

    name: str
    pid_file: Path
    command: str
    clock: Clock = field(default_factory=Clock)

    def run(self, start: Callable[[ExitStack], object]) -> None:
        """Be the server: call `start`, serve until SIGTERM or SIGINT, and unwind the stack.

        Tells the process that waits in `start_detached` that the server is ready, or why not.
        `ConflictError` when the server runs already; errors of `start` pass through.
        """
        with _starter() as tell, self._lock(), _stopped_by_signals() as told, ExitStack() as stack:
            start(stack)
            tell({})
            # Not for ever: this thread hears of a signal that another was given only when it wakes.
            while not told.wait(_LOOK):
                pass

    def start_detached(self, argv: Sequence[str], log_file: Path, *, timeout: float = 60.0) -> int:
        """Start `argv`, which calls `run`, in the background; return its pid once it is ready.

        Its output goes to the end of `log_file`. Raises what `run` raised over there, or
        `AIFlowError` with its last words, or `WaitTimeoutError` when it is not ready after
        `timeout` seconds, in which case it is told to stop.
        """
        pid = self.pid()
        if pid is not None:
            raise self._running()
        with _writable(log_file):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log_file.touch()
        ours, theirs = os.pipe()
        with open(ours, "rb") as answers:
            with open(theirs, "wb"), log_file.open("ab") as log:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=[theirs],
                    env={**os.environ, _READY_FD: str(theirs)},
                )
            ready, _, _ = select.select([answers], [], [], timeout)
            if not ready:
                process.terminate()
                process.wait()
                raise WaitTimeoutError(
                    f"The {self.name} was not ready after {timeout:g} seconds.",
                    next_step=f"Its log is {log_file}.",
                )
            answer = answers.readline()
        if not answer:
            process.wait()
            raise AIFlowError(
                f"The {self.name} did not start: {_last_line(log_file)}",
                next_step=f"Its log is {log_file}.",
            )
        facts = json.loads(answer)
        if facts:
            process.wait()
            raise AIFlowError.from_wire(facts)
        # It outlives this process, which therefore never waits for it.
        process.returncode = 0
        return process.pid

    def stop(self, *, timeout: float = 60.0) -> int:
        """Stop the server and return the pid that it had, once it is gone.

        `NotFoundError` when it does not run, `WaitTimeoutError` when it is still there after
        `timeout` seconds.
        """
        pid = self.pid()
        if pid is None:
            raise NotRunningError(self.name, self.pid_file)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = self.clock.monotonic() + timeout
        while self.pid() == pid:
            if self.clock.monotonic() > deadline:
                raise WaitTimeoutError(
                    f"The {self.name} (pid {pid}) still runs {timeout:g} seconds after it was "
                    "told to stop.",
                    next_step=f"`kill -9 {pid}` ends it; nothing that is recorded is lost.",
                )
            self.clock.wait(threading.Event(), _POLL)
        return pid

    def pid(self) -> int | None:
        """The pid of the running server, None when it does not run."""
        try:
            fd = os.open(self.pid_file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            while True:
                try:
                    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    # Whoever takes the lock writes its pid right after.
                    if text := os.pread(fd, 32, 0).strip():
                        return int(text)
                    self.clock.wait(threading.Event(), _POLL)
                else:
                    return None
        finally:
            os.close(fd)

    def _lock(self) -> AbstractContextManager[None]:
        return held(self.pid_file, self._running(), self.clock)

    def _running(self) -> ConflictError:
        return ConflictError(f"{self.name} is running, stop it first with '{self.command} stop'.")


@contextmanager
def held(pid_file: Path, conflict: ConflictError, clock: Clock) -> Iterator[None]:
    """Hold the lock on a pid file, with the pid of this process in it, and remove it at the end.

    Raises `conflict` when another process holds it. While it is held, this process must not open
    the file elsewhere: the lock would go with the first descriptor that is closed.
    """
    with _writable(pid_file):
        pid_file.parent.mkdir(parents=True, exist_ok=True)
    deadline = clock.monotonic() + _PATIENCE
    while (fd := _lock(pid_file)) is None:
        if clock.monotonic() > deadline:
            raise conflict
        clock.wait(threading.Event(), _POLL)
    try:
        with _writable(pid_file):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        pid_file.unlink(missing_ok=True)
        os.close(fd)


@contextmanager
def _writable(file: Path) -> Iterator[None]:
    """Say in words why a file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoomError(
                f"The file {file} cannot be written: {error.strerror}.",
                next_step="Make room on its disk, then start again.",
            ) from error
        raise ConfigError(
            f"The file {file} cannot be written: {error.strerror}.",
            next_step="Let this user write there, or choose another home.",
        ) from error


class NotRunningError(NotFoundError):
    """The server that was to be stopped does not run."""

    code = "not_running"

    def __init__(self, name: str, pid_file: Path) -> None:
        AIFlowError.__init__(self, f"PID file of {name} does not exist at {pid_file}.")
        self.kind, self.name = name, pid_file


def log_to_stderr() -> None:
    """Let this process log as a server does: INFO and up, a line each, to the standard error."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _lock(pid_file: Path) -> int | None:
    """The locked pid file, opened; None when another process holds the lock."""
    with _writable(pid_file):
        fd = os.open(pid_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process before may have removed the file after it was opened here.
        if os.path.samestat(os.fstat(fd), os.stat(pid_file)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


class _Stop(BaseException):
    """SIGTERM or SIGINT arrived."""


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """End the block, wherever it is, on the first SIGTERM or SIGINT; ignore further ones. The event
    is set as well, should the block be in the midst of something that lets no exception out."""
    watched = (signal.SIGTERM, signal.SIGINT)
    told = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        told.set()
        raise _Stop

    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield told
    except _Stop:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _starter() -> Iterator[Callable[[dict[str, str]], None]]:
    """What tells the process that waits in `start_detached`: nothing wrong, or the facts of an
    error. An error that leaves the block is told, too."""
    number = os.environ.pop(_READY_FD, None)
    if number is None:
        yield lambda facts: None
        return
    with open(int(number), "wb") as pipe:
        # A process that the server starts must not keep the starter waiting.
        os.set_inheritable(pipe.fileno(), False)

        def tell(facts: dict[str, str]) -> None:
            if not pipe.closed:
                pipe.write(json.dumps(facts).encode() + b"\n")
                pipe.close()

        try:
            yield tell
        except AIFlowError as error:
            tell(error.to_wire())
            raise


def _last_line(log_file: Path) -> str:
    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing."
