"""One condition host as the server sees it: a process that is asked over a pipe, or ended."""

import os
import selectors
import signal
import subprocess
import threading
import time

from aiflow_core.crash import crash_point
from aiflow_core.errors import UsageError
from aiflow_core.model.serialization import decode, encode
from aiflow_scheduler_event.condition_host import READY, Finding, Question

LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes; an event, which must carry the answer, holds far less."""

# Seconds in which the interpreter starts; no code of a user runs before that.
_TIME_TO_START = 60.0

# Steps of priority; the system takes what is beyond its last one for that.
_NICER = 5

# A process that exits closes its pipe before it has an exit code.
_TIME_TO_EXIT = 1.0
_LOOK = 0.005


class SpentError(Exception):
    """The process has not answered and never will: it is to be ended. Says why.

    Attributes:
        hung: it was the time that was up.
    """

    def __init__(self, why: str, hung: bool = False) -> None:
        self.hung = hung
        super().__init__(why)


class HostProcess:
    """A process in which conditions are evaluated. One thread asks; any may `end` it.

    Nothing that a condition does to its side of the pipe disturbs this side: what is not the one
    line that was expected, in time, spends the process.
    """

    def __init__(self, python: str, memory_limit: int) -> None:
        crash_point("conditions.spawn.before")
        self._process = subprocess.Popen(
            [python, "-m", "aiflow_scheduler_event.condition_host", str(memory_limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        # Whatever a condition does with the processor, servers and tasks go first.
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICER
        os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
        crash_point("conditions.spawn.after")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._ending = threading.Lock()

    def await_start(self) -> None:
        """Return when it can be asked."""
        if self._exchange(b"", _TIME_TO_START) != READY:
            raise SpentError("the condition host does not start")

    @property
    def is_idle(self) -> bool:
        """Whether it lives and has nothing to say; after an answer nothing else may come."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            return not selector.select(0)

    def ask(self, question: Question, time_limit: float) -> Finding:
        """What it has found within `time_limit` seconds."""
        line = self._exchange(encode(question) + b"\n", time_limit)
        try:
            return decode(line, Finding)
        except UsageError as error:
            raise SpentError("it wrote to the pipe that carries the answer") from error

    def end(self, grace: float = 0) -> int:
        """End it with all that it has started, giving it `grace` seconds to exit by itself; its
        return code."""
        with self._ending:
            if self._process.returncode is None:
                self._await_exit(grace)
                # It is not reaped yet: its number still names its group, whoever is left of that.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            return self._process.returncode

    def close(self) -> None:
        """End it, and close the pipe; nobody asks it any more."""
        self.end()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _await_exit(self, grace: float) -> None:
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(_LOOK)

    def _exchange(self, request: bytes, time_limit: float) -> bytes:
        """Send this, and return the line that comes back.

        One deadline for all: a process need not read, and need not end what it has begun to write.
        """
        deadline = time.monotonic() + time_limit
        unsent, line = memoryview(request), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if unsent:
                selector.register(self._in, selectors.EVENT_WRITE)
            while not line.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise SpentError(f"it took longer than {time_limit:g} s", hung=True)
                for key, _ in ready:
                    if key.fd == self._out:
                        line += self._read()
                        if len(line) > LONGEST_ANSWER:
                            raise SpentError("its states are larger than can be kept")
                    else:
                        unsent = self._write(unsent)
                        if not unsent:
                            selector.unregister(self._in)
        if unsent:
            raise SpentError("it wrote to the pipe that carries the answer")
        return bytes(line)

    def _read(self) -> bytes:
        part = os.read(self._out, 65536)
        if not part:
            raise SpentError(f"its process ended {_ending(self.end(_TIME_TO_EXIT))}")
        return part

    def _write(self, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(self._in, unsent) :]
        except BrokenPipeError:
            return unsent[:0]  # the end of what it wrote tells what has become of it


def _ending(returned: int) -> str:
    if returned < 0:
        return f"by signal {-returned} ({signal.Signals(-returned).name})"
    return f"with exit code {returned}"
