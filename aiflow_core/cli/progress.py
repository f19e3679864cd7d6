"""What is shown of executions that go on: a live table on a terminal, lines elsewhere.

Of `aiflow run`, task output goes to stdout, each line behind the name of its task, and so does the
summary; what is told about the run goes to stderr.
"""

import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiflow_core.cli.output import COLOURS, shown_json
from aiflow_core.cli.running import Change, Session
from aiflow_core.clock import to_datetime
from aiflow_core.deployment import log_file
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, TaskExecution, WorkflowExecution
from aiflow_core.model.status import TASK_FINISHED, TaskStatus

_EVENTS_SHOWN = 5


class Scene(Protocol):
    """What goes on.

    Attributes:
        workflows: names by workflow id; those that are unknown are shown as their ids.
        executions, tasks: as last heard of, by their ids.
    """

    workflows: dict[int, str]
    executions: dict[int, WorkflowExecution]
    tasks: dict[int, TaskExecution]

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""


class Logs:
    """Follows the log files of attempts and hands on each whole line."""

    def __init__(self, session: Session, write: Callable[[str, str], None]) -> None:
        self._session = session
        self._write = write
        self._open: dict[AttemptKey, IO[str]] = {}
        self._done: set[AttemptKey] = set()
        self._rest: dict[AttemptKey, str] = {}

    def follow(self) -> None:
        """Hand on what has been written since."""
        for task in self._session.tasks.values():
            key = task.attempt
            if key in self._done or task.status is TaskStatus.QUEUED:
                continue
            self._read(task.task_name, key, self._path(task))
            if task.status in TASK_FINISHED:
                self._finish(task.task_name, key)

    def _path(self, task: TaskExecution) -> Path:
        execution = self._session.executions[task.workflow_execution_id]
        name = self._session.workflows[execution.workflow_id]
        return log_file(self._session.log_dir, name, task.attempt)

    def _read(self, name: str, key: AttemptKey, path: Path) -> None:
        if key not in self._open:
            if not path.exists():
                return
            self._open[key] = path.open(encoding="utf-8", errors="replace", newline="\n")
        *lines, rest = (self._rest.get(key, "") + self._open[key].read()).split("\n")
        self._rest[key] = rest
        for line in lines:
            self._write(name, line)

    def _finish(self, name: str, key: AttemptKey) -> None:
        self._done.add(key)
        rest = self._rest.pop(key, "")
        if rest:
            self._write(name, rest)
        if file := self._open.pop(key, None):
            file.close()

    def close(self) -> None:
        for file in self._open.values():
            file.close()


class Lines:
    """Progress as plain lines: what tasks print goes to `output`, what happens to `told`."""

    def __init__(self, output: IO[str], told: IO[str]) -> None:
        self._output = output
        self._told = told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...

    def log(self, task_name: str, line: str) -> None:
        click.echo(f"[{task_name}] {line}", file=self._output)

    def change(self, session: Scene, change: Change) -> None:
        match change:
            case Event():
                what = _told(change)
            case TaskExecution():
                what = f"task {_label(change)} {change.status}{_because(change.reason)}"
            case _:
                name = session.workflows.get(change.workflow_id, change.workflow_id)
                reason = _because(change.reason)
                what = f"workflow {name}, execution {change.id}: {change.status}{reason}"
        click.echo(f"{session.elapsed:7.2f} s  {what}", file=self._told)

    def refresh(self, session: Scene) -> None: ...


class LiveTable:
    """Progress as a table that is drawn again and again, with the tasks' output above it."""

    def __init__(self) -> None:
        self._live = Live(console=Console(highlight=False), refresh_per_second=8)
        self._events: deque[Event] = deque(maxlen=_EVENTS_SHOWN)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._live.__exit__(exc_type, exc, tb)

    def log(self, task_name: str, line: str) -> None:
        self._live.console.print(Text(f"[{task_name}] {line}"))

    def change(self, session: Scene, change: Change) -> None:
        if isinstance(change, Event):
            self._events.append(change)

    def refresh(self, session: Scene) -> None:
        statuses = ", ".join(
            f"{session.workflows.get(e.workflow_id) or f'Workflow execution {e.id}:'} {e.status}"
            for e in session.executions.values()
        )
        table = Table(title=f"{statuses}   {session.elapsed:.0f} s", title_justify="left")
        for column in ("task", "run", "status", "seconds", "reason"):
            table.add_column(column)
        for task in _latest(session):
            table.add_row(
                task.task_name,
                str(task.sequence_number),
                Text(task.status, style=COLOURS.get(task.status, "")),
                _seconds(task, session.now),
                task.reason,
            )
        table.caption = Text("\n".join(_told(event) for event in self._events))
        table.caption_justify = "left"
        self._live.update(table)


def view(told: IO[str]) -> Lines | LiveTable:
    """The view that suits where the output goes to; `told` is where lines of what happens go."""
    return LiveTable() if sys.stdout.isatty() else Lines(sys.stdout, told)


def follow(session: Session, as_json: bool) -> None:
    """Show what happens until the session is over."""
    with ExitStack() as stack:
        shown = Lines(sys.stderr, sys.stderr) if as_json else view(sys.stderr)
        stack.enter_context(shown)
        logs = Logs(session, shown.log)
        stack.callback(logs.close)
        try:
            while not session.is_over:
                for change in session.changes(0.1):
                    shown.change(session, change)
                logs.follow()
                shown.refresh(session)
        finally:
            session.stop(lambda change: shown.change(session, change))
            logs.follow()
            shown.refresh(session)


def summarize(session: Session, output: str) -> None:
    """Print how everything ended."""
    if output == "json":
        executions, tasks = list(session.executions.values()), list(session.tasks.values())
        click.echo(shown_json({"workflow_executions": executions, "task_executions": tasks}))
        return
    for execution in session.executions.values():
        name = session.workflows.get(execution.workflow_id, execution.workflow_id)
        click.echo(f"{name}: {execution.status}{_because(execution.reason)}")


def _latest(session: Scene) -> list[TaskExecution]:
    latest = {(t.workflow_execution_id, t.task_name): t for t in session.tasks.values()}
    return list(latest.values())


def _told(event: Event) -> str:
    value = "" if event.value is None else f" = {event.value}"
    return f"event {event.key}{value} from {event.sender or 'outside'}"


def _label(task: TaskExecution) -> str:
    attempt = f".{task.try_number}" if task.try_number > 1 else ""
    return f"{task.task_name} #{task.sequence_number}{attempt}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _seconds(task: TaskExecution, now_ms: int) -> str:
    if task.begin_date is None:
        return ""
    end = task.end_date or to_datetime(now_ms)
    return f"{(end - task.begin_date).total_seconds():.1f}"
