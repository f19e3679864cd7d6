"""The events file of a simulation: what happens when, a JSON object on each line."""

import re
from datetime import UTC, datetime
from pathlib import Path

from aiflow_core.clock import to_ms
from aiflow_core.errors import ConflictError, UsageError
from aiflow_core.model.serialization import Value, decode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.rehearsal import Rehearsal

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Line(Value, frozen=True):
    """A line as it is written: an event with `key`, or the end of a task's attempt with `task`."""

    at: float | str = 0
    key: str = ""
    value: str | None = None
    namespace: str | None = None
    workflow_execution_id: int = 0
    task: str = ""
    status: TaskStatus = TaskStatus.SUCCESS
    reason: str = ""


class Step(Value, frozen=True):
    """A line at its moment, milliseconds since the epoch."""

    at_ms: int
    line: Line

    def carry_out(self, rehearsal: Rehearsal, namespace: str) -> None:
        """Let it happen now; `namespace` is that of events which name none."""
        line = self.line
        if line.key:
            where = namespace if line.namespace is None else line.namespace
            rehearsal.send(line.key, line.value, where, line.workflow_execution_id)
            return
        for request in reversed(rehearsal.simulation.attempts()):
            execution = request.key.workflow_execution_id
            if request.key.task_name == line.task and line.workflow_execution_id in (0, execution):
                rehearsal.end(request.key, line.status, line.reason)
                return
        raise ConflictError(
            f"At {rehearsal.now.isoformat()} no attempt of task {line.task!r} runs that could be "
            f"{line.status}.",
            next_step=f"Let it run on by --task {line.task}=RUNNING, or look at what started it.",
        )


def read_script(path: Path, begin_ms: int) -> list[Step]:
    """The steps of a file, in the order of their moments. `UsageError` names the line that is
    wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The events file {path} cannot be read: {error}.") from error
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            steps.append(_step(decode(line, Line), begin_ms))
        except UsageError as error:
            raise UsageError(
                f"Line {number} of {path.name}: {error.what}", next_step=error.next_step
            ) from error
    return sorted(steps, key=lambda step: step.at_ms)


def _step(line: Line, begin_ms: int) -> Step:
    if bool(line.key) == bool(line.task):
        raise UsageError("It has to have either `key` or `task`.")
    if line.status not in TASK_FINISHED:
        raise UsageError(f"An attempt of a task does not end with {line.status}.")
    at_ms = _moment(line.at, begin_ms)
    if at_ms < begin_ms:
        raise UsageError(f"{line.at!r} is before the beginning.", next_step="Set --begin.")
    return Step(at_ms, line)


def _moment(at: float | str, begin_ms: int) -> int:
    if not isinstance(at, str):
        return begin_ms + round(at * 1000)
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", at):
        return begin_ms + round(float(found[1]) * _UNITS[found[2]])
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise UsageError(
            f"{at!r} is no moment.", next_step="Write 90, 90s, 2h or 2024-01-01T12:00:00Z."
        ) from error
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
