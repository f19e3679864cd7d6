"""What was noted of a run, by everybody who noted something; read back when all is quiet.

The tables are read as they are, by reflection: the oracle does not ask the code that it judges.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table, create_engine, select

from aiflow_core.model.event import Event, EventFilter, EventType


@dataclass(frozen=True)
class Appended:
    """A producer was told that his event has this offset."""

    producer: str
    number: int
    id: str
    offset: int


@dataclass(frozen=True)
class Started:
    """A client was told that his request has started this execution."""

    request: str
    workflow: str
    execution: int


@dataclass(frozen=True)
class Entry:
    """A line of the journal: a process of an attempt began or ended."""

    what: str
    execution: int
    task: str
    sequence: int
    attempt: int
    pid: int
    ns: int
    alone: bool = True

    @property
    def key(self) -> tuple[int, str, int, int]:
        return (self.execution, self.task, self.sequence, self.attempt)


@dataclass(frozen=True)
class Pause:
    """Processes stood still, all at once. Moments in nanoseconds, as in the journal."""

    pids: list[int]
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class Transcript:
    """What a listener was given, in the order in which it came: offsets and ids."""

    name: str
    after: int
    filter: EventFilter
    heard: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ExecutionRow:
    id: int
    workflow: str
    status: str
    run_type: str
    event_offset: int
    reason: str = ""


@dataclass(frozen=True)
class TaskRow:
    execution: int
    task: str
    sequence: int
    attempt: int
    status: str
    reason: str = ""


@dataclass(frozen=True)
class DecisionRow:
    offset: int
    execution: int
    task: str
    what: str
    count: int = 1


@dataclass(frozen=True)
class Plan:
    """What the workflows of the load say.

    Attributes:
        upstream: of each workflow: task -> the tasks after whose success it starts.
        heard: of each workflow: task -> the keys of its rules for events.
        triggers: key of an event -> the workflow that it starts.
        schedules: id of a schedule -> its workflow and its expression.
        reactive: workflows whose executions go on until they are stopped.
    """

    upstream: dict[str, dict[str, frozenset[str]]]
    heard: dict[str, dict[str, frozenset[str]]]
    triggers: dict[str, str]
    schedules: dict[int, tuple[str, str]]
    reactive: frozenset[str] = frozenset()


@dataclass(frozen=True)
class History:
    """All of it.

    Attributes:
        leftovers: name of a table that must be empty when all is quiet -> its number of rows.
        surprises: what nobody expected to be told or to see, in words.
        position: the last offset that the scheduler has taken in.
        pauses: during which some of the attempts' processes may have stood still.
        several: there were several servers, of which one may give up for lost what another ran.
    """

    plan: Plan
    log: tuple[Event, ...] = ()
    appended: tuple[Appended, ...] = ()
    started: tuple[Started, ...] = ()
    journal: tuple[Entry, ...] = ()
    pauses: tuple[Pause, ...] = ()
    transcripts: tuple[Transcript, ...] = ()
    executions: tuple[ExecutionRow, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    decisions: tuple[DecisionRow, ...] = ()
    leftovers: dict[str, int] = field(default_factory=dict)
    surprises: tuple[str, ...] = ()
    position: int = 0
    several: bool = False


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file; none when there is no file. A line that a kill cut off ends it."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line[-1:]]


def read_log(uri: str) -> tuple[Event, ...]:
    """The whole log, as the database has it."""
    return tuple(
        Event(
            key=row["key"],
            value=row["value"],
            namespace=row["ns"],
            sender=row["sender"],
            context=row["context"],
            type=EventType(row["type"]),
            id=row["event_id"],
            offset=row["seq"],
            create_time=row["create_ms"],
        )
        for row in sorted(rows(uri, "event"), key=lambda row: row["seq"])
    )


def read_metadata(uri: str) -> dict[str, Any]:
    """What the scheduler has in its tables, as the fields of `History`."""
    names = {row["id"]: row["workflow_name"] for row in rows(uri, "workflow")}
    return {
        "executions": tuple(
            ExecutionRow(
                row["id"],
                names[row["workflow_id"]],
                row["status"],
                row["run_type"],
                row["event_offset"],
                row["reason"],
            )
            for row in rows(uri, "workflow_execution")
        ),
        "tasks": tuple(
            TaskRow(
                row["workflow_execution_id"],
                row["task_name"],
                row["sequence_number"],
                row["try_number"],
                row["status"],
                row["reason"],
            )
            for row in rows(uri, "task_execution")
        ),
        "decisions": tuple(
            DecisionRow(
                *(row["offset"], row["workflow_execution_id"], row["task_name"], row["what"]),
                row["count"],
            )
            for row in rows(uri, "decision")
        ),
        "leftovers": {name: len(rows(uri, name)) for name in ("outbox", "evaluation")},
        "position": rows(uri, "consumer")[0]["last_seq"],
    }


def rows(uri: str, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            found = Table(table, MetaData(), autoload_with=connection)
            return [dict(row) for row in connection.execute(select(found)).mappings()]
    finally:
        engine.dispose()


def made(cls: Any, lines: Iterable[Any]) -> tuple[Any, ...]:
    """A value of the class for each line."""
    return tuple(cls(**line) for line in lines)
