"""The bash operator."""

import os
import signal
import subprocess
from typing import Any

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.parameters import mentions_event
from aiflow_core.specs.operator import Operator, TaskContext


class BashOperator(Operator):
    """Runs a command with `bash -c`; succeeds when it exits with 0.

    Its output goes to the task's log as it comes. The command runs in the task's process group, so
    that whatever ends the task ends all that the command started.

    The command finds the events that started the task, one JSON object per line, in the file
    `$AIFLOW_EVENTS_FILE`.

    Args:
        bash_command: what bash executes. It holds no `${event...}`: what an event says would be
            executed. In `env` it is only a value.
        env: environment variables added to those of the task.
        cwd: the directory in which the command runs; the task's own unless given.
    """

    def __init__(
        self,
        name: str,
        bash_command: str,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        **config: Any,
    ) -> None:
        if mentions_event(bash_command):
            raise DefinitionError(
                f"The command of task {name!r} holds ${{event...}}, and bash would execute what an "
                "event says.",
                next_step="Put it into `env`, for example env={'DAY': '${event.value.day}'}, and "
                'use "$DAY" in the command.',
            )
        super().__init__(name, **config)
        self.bash_command = bash_command
        self.env = env
        self.cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, context: TaskContext) -> None:
        self.log.info("Running: %s", self.bash_command)
        try:
            self._process = subprocess.Popen(
                ["bash", "-c", self.bash_command],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(self.env or {})},
                cwd=self.cwd,
            )
        except NotADirectoryError as error:
            raise AIFlowError(f"The directory {self.cwd} of the command is none.") from error
        except FileNotFoundError as error:
            if error.filename != "bash":
                raise AIFlowError(f"There is no directory {self.cwd} for the command.") from error
            raise AIFlowError(
                "There is no bash on this machine.", next_step="Install it, or add it to PATH."
            ) from error

    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        assert self._process is not None
        code = self._process.wait(timeout)
        if code == 0:
            return
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise AIFlowError(
            f"Bash command failed. The command returned a non-zero exit code. ({how})"
        )

    def stop(self, context: TaskContext) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
