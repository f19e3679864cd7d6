"""Programs of other systems that operators call: found, run, and what they say when they fail."""

import os
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.parameters import mentions_event

_SAYS_NOTHING = re.compile(
    r"at |\.\.\. |[-=]+$|Use the help option |\d\d.{0,30} (TRACE|DEBUG|INFO|WARN)\b"
)
_NAMED = re.compile(r"(^|: )\[[A-Z0-9]+_[A-Z0-9_.]+\] ")
_KEPT = 400  # lines of output in which the reason of a failure is looked for


def find_program(name: str, given: str | None, home: str) -> str:
    """The path of a program: the one that is `given`, else the one in PATH, else that in the
    directory `bin` of the installation which the environment variable `home` names.

    `AIFlowError` when there is none.
    """
    if given is not None:
        found = shutil.which(os.path.expanduser(os.path.expandvars(given)))
        if found is None:
            raise AIFlowError(
                f"There is no program {given}, or it may not be executed.",
                next_step="Correct `executable_path`.",
            )
        return found
    found = shutil.which(name)
    if found is None and os.environ.get(home):
        found = shutil.which(str(Path(os.environ[home], "bin", name)))
    if found is None:
        raise AIFlowError(
            f"There is no {name} on this machine.",
            next_step=f"Add it to PATH, set {home}, or give its path as `executable_path`.",
        )
    return found


def telling_line(output: str) -> str:
    """The line of a failed program's output that says most: of a Java stack trace the innermost
    cause, else the last that names an error of Spark, such as `[DIVIDE_BY_ZERO]`, else the last
    that is more than a note of a log. Empty when it said nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Some put the trace of a server, which begins a line, into the message of a cause.
    causes = [
        line.removeprefix("Caused by: ")
        for before, line in zip(["", *lines], lines, strict=False)
        if line.startswith("Caused by: ") or before.endswith("<Exception on server side:")
    ]
    said = [line for line in lines if not _SAYS_NOTHING.match(line)]
    named = [line for line in said if _NAMED.search(line)]
    if causes or named:
        return (causes or named)[-1]
    return said[-1] if said else ""


def check_options(task: str, name: str, options: str | None, instead: str) -> None:
    """Raise `DefinitionError` unless the parameter `name` of a task, which holds options as on a
    command line, can be read and no event can add to them; `instead` takes what events say."""
    if mentions_event(options or ""):
        raise DefinitionError(
            f"The `{name}` of task {task!r} hold ${{event...}}, and what an event says could add "
            "options.",
            next_step=f"Put it into {instead}.",
        )
    try:
        shlex.split(options or "")
    except ValueError as error:
        raise DefinitionError(f"The `{name}` of task {task!r} cannot be read: {error}.") from error


class Program:
    """A running program. What it prints goes where the output of this process goes, as it comes.

    `AIFlowError` when it cannot be started. It belongs to the process group of its caller.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise AIFlowError(f"{command[0]} cannot be started: {error.strerror}.") from error
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._reader = threading.Thread(target=self._pass_on, name="output", daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """The last of what it has printed."""
        return "".join(self._lines)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, which is minus the number of a signal; `subprocess.TimeoutExpired` after
        `timeout` seconds."""
        code = self._process.wait(timeout)
        # Whatever it has left running may hold its output open for ever.
        self._reader.join(5)
        return code

    def terminate(self) -> None:
        """End it, and return when it has ended."""
        self._process.terminate()
        self.wait()

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line)
                print(line, end="", flush=True)
