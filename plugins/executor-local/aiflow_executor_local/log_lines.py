"""Tells observers of the lines that tasks write to their logs."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aiflow_core.clock import Clock
from aiflow_core.model.execution import AttemptKey

LONGEST = 16 * 1024
"""Bytes of a line; a longer one is told in parts."""

_AT_ONCE = 1024 * 1024

# Seconds from one look at the files to the next.
_LOOK = 0.2

# So many seconds the end of the executor waits for the last look.
_JOIN = 3.0


class LogLines:
    """Looks at the logs of attempts that run, in a thread of its own."""

    def __init__(self, hooks: Any, clock: Clock) -> None:
        self._hooks = hooks
        self._clock = clock
        self._lock = threading.Lock()
        self._logs: dict[AttemptKey, _Log] = {}
        self._wake = threading.Event()
        self._is_closed = False

    def start(self, stack: ExitStack) -> None:
        """Begin to look, until the stack unwinds."""
        thread = threading.Thread(target=self._run, name="executor-log-lines", daemon=True)
        thread.start()
        stack.callback(thread.join, _JOIN)
        stack.callback(self._close)

    def follow(self, key: AttemptKey, path: Path, *, anew: bool) -> None:
        """Tell of all lines in the file; of one that was not begun `anew` only those to come."""
        position = path.stat().st_size if not anew and path.exists() else 0
        with self._lock:
            self._logs.setdefault(key, _Log(path, position))

    def end(self, key: AttemptKey) -> None:
        """The attempt is over: tell of what is left, and let go of its file."""
        with self._lock:
            if log := self._logs.get(key):
                log.has_ended = True
                self._wake.set()

    def look(self) -> None:
        """Tell of the lines that have been written since the last time."""
        with self._lock:
            logs = list(self._logs.items())
        for key, log in logs:
            is_last = log.has_ended  # asked first: after it nothing is written
            while lines := log.read(is_last):
                for line in lines:
                    self._hooks.task_log_line(key=key, line=line)
            if is_last:
                with self._lock:
                    del self._logs[key]

    def _run(self) -> None:
        while not self._is_closed:
            self._clock.wait(self._wake, _LOOK)
            self._wake.clear()
            self.look()

    def _close(self) -> None:
        self._is_closed = True
        self._wake.set()


class _Log:
    """A file, and how far it was read."""

    def __init__(self, path: Path, position: int) -> None:
        self.has_ended = False
        self._path = path
        self._position = position

    def read(self, is_last: bool) -> list[str]:
        """The next lines; what does not end in a line break yet only when it is the last."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read(_AT_ONCE)
        except FileNotFoundError:
            return []
        is_all = is_last and len(data) < _AT_ONCE
        if not is_all and not data.endswith(b"\n"):
            whole = data.rfind(b"\n") + 1
            data = data[: max(whole, (len(data) - whole) // LONGEST * LONGEST + whole)]
        self._position += len(data)
        parts = [
            line[start : start + LONGEST]
            for line in data.splitlines()
            for start in range(0, max(len(line), 1), LONGEST)
        ]
        return [part.decode("utf-8", "replace") for part in parts]
