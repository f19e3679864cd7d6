"""The run directory of an attempt: who runs it, and how it ended.

Everything that must survive a crash of the executor stands here, and nowhere else:

* the directory itself: the attempt was started; it comes into being with the lock held
* `lock`: byte 0 is locked by the attempt's process, byte 1 by its zygote; names the process
* `stop`: somebody asked the attempt to stop
* `lease`: until when it may run, by word of an executor that took it over from the one that knows
  its zygote
* `result.json`: the final report

Beside these `events.jsonl` holds the events that started the task, for the task to read.

Nothing is forced to disk. A crash of the machine ends the attempts as well, and one whose result
was not yet the scheduler's is as good as one that ended a moment before its result.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import uuid
from pathlib import Path

from aiflow_core.crash import crash_point
from aiflow_core.errors import UsageError
from aiflow_core.model.execution import AttemptKey, AttemptReport
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import check_name

# struct flock of Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")
_ATTEMPT, _ZYGOTE = 0, 1
_EVENTS = "events.jsonl"


class RunDirectory:
    """`<home>/run/<workflow execution>/<task>.<sequence number>.<try number>/`."""

    def __init__(self, home: str | Path, key: AttemptKey) -> None:
        check_name("task", key.task_name)
        self.key = key
        self._home = Path(home)
        self.path = (
            self._home
            / "run"
            / str(int(key.workflow_execution_id))
            / f"{key.task_name}.{int(key.sequence_number)}.{int(key.try_number)}"
        )

    @property
    def events_file(self) -> Path:
        return self.path / _EVENTS

    def exists(self) -> bool:
        """Whether the attempt was ever started."""
        return self.path.exists()

    def claim(self, draft: "Draft | None" = None) -> int | None:
        """Start the attempt: of all who try, one succeeds and is given the open lock, which it
        holds until it closes the descriptor or ends.

        Args:
            draft: made before by this process, which saves the time now.
        """
        draft = draft or Draft(self._home)
        try:
            # Never replaces: the other's directory is not empty.
            crash_point("run_directory.claim.before")
            try:
                os.rename(draft.path, self.path)
            except FileNotFoundError:
                os.makedirs(self.path.parent, exist_ok=True)
                os.rename(draft.path, self.path)
            crash_point("run_directory.claim.after")
        except OSError as error:
            draft.discard()
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return None
        return draft.lock

    def keep(self) -> int:
        """Hold the lock beside the attempt's process, so that nobody takes the attempt for over
        before its zygote has cleaned up after it. Returns the descriptor to close then."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        _hold(lock, _ZYGOTE)
        return lock

    def holder(self) -> int | None:
        """Process id of one who holds the lock, None when the attempt is over."""
        return self._owner(start=0, length=0)

    def leader(self) -> int | None:
        """Process id, and process group, of the attempt; None when the process has ended."""
        return self._owner(start=_ATTEMPT, length=1)

    def group(self) -> int | None:
        """Process group of the attempt, also when its process has ended; not to be asked by one who
        holds the lock, since reading it would let it go. None when that was before the machine
        was started, or never."""
        import psutil  # late: zygotes do not ask, and start fast

        try:
            with open(self.path / "lock") as lock:
                if os.fstat(lock.fileno()).st_mtime < psutil.boot_time():
                    return None
                return int(lock.read())
        except (FileNotFoundError, ValueError):
            return None

    def request_stop(self) -> None:
        """Let whoever sees the attempt end know that it was asked to."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "stop").touch()

    def stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    def lend(self, until: float) -> None:
        """Let the attempt run until that moment of the machine's monotonic clock, whatever its
        zygote was told."""
        draft = f"{self.path}/lease.{os.getpid()}"
        with open(draft, "w") as file:
            file.write(repr(until))
        os.rename(draft, f"{self.path}/lease")

    def lease(self) -> float | None:
        """The moment that `lend` was given last, None when there was none."""
        try:
            return float((self.path / "lease").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def finish(self, report: AttemptReport) -> None:
        """Write the final report; nobody sees half of it."""
        draft = self.path / _result_draft()
        with open(draft, "wb") as file:
            file.write(encode(report))
        crash_point("run_directory.result.before")
        os.rename(draft, self.path / "result.json")
        crash_point("run_directory.result.after")

    def result(self) -> AttemptReport | None:
        """The final report, None when there is none (or none that survived a power failure)."""
        try:
            return decode((self.path / "result.json").read_bytes(), AttemptReport)
        except (FileNotFoundError, NotADirectoryError, UsageError):
            return None

    def conclude(self, reason: str) -> AttemptReport:
        """The final report of an attempt whose process is gone: its own, else one that says
        `reason`, which is kept if it can be."""
        report = self.result()
        if report is None:
            status = TaskStatus.STOPPED if self.stop_requested() else TaskStatus.FAILED
            report = AttemptReport(key=self.key, status=status, reason=reason)
            # Without room for a result the report itself must still go out.
            with contextlib.suppress(OSError):
                self.finish(report)
        return report

    def settle(self, report: AttemptReport) -> bool:
        """End an attempt that was never started, so that it never will be; False when it was."""
        lock = self.claim()
        if lock is None:
            return False
        try:
            self.finish(report)
        finally:
            os.close(lock)
        return True

    def _owner(self, start: int, length: int) -> int | None:
        return _owner_of(self.path / "lock", start, length)


class Draft:
    """A run directory that is no attempt's yet. It has the files that each attempt writes, empty,
    because to make a file takes longer than to fill it; and its process holds the lock.

    Attributes:
        path: `<home>/run/.drafts/<random>`.
        lock: the open lock.
    """

    def __init__(self, home: Path) -> None:
        self.path = drafts(home) / uuid.uuid4().hex
        os.makedirs(self.path)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.lock = os.open(self.path / "lock", flags, 0o600)
            os.write(self.lock, str(os.getpid()).encode())
            _hold(self.lock, _ATTEMPT)
            for name in (_EVENTS, _result_draft()):
                open(self.path / name, "xb").close()
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    @property
    def events_file(self) -> Path:
        return self.path / _EVENTS

    def discard(self) -> None:
        """Remove it; the lock is given back."""
        os.close(self.lock)
        shutil.rmtree(self.path, ignore_errors=True)


def drafts(home: Path) -> Path:
    """Where drafts are; the ones whose process was killed stay there."""
    return home / "run" / ".drafts"


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock of a run directory; not to be asked by one who may."""
    return _owner_of(lock, start=0, length=0) is not None


def _hold(lock: int, byte: int) -> None:
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def _result_draft() -> str:
    """What this process's result is called until it is whole."""
    return f"result.{os.getpid()}"


def _owner_of(path: Path, start: int, length: int) -> int | None:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    finally:
        os.close(lock)
    return None if kind == fcntl.F_UNLCK else pid
