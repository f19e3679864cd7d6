"""What must hold, whatever happened: found out from the log alone, by a scheduler that never
crashed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, Namespace
from aiflow_core.model.status import TASK_FINISHED, WORKFLOW_FINISHED
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.records import folded
from aiflow_scheduler_event.state import Changes, LiveExecution, LiveTask, Publish, State, Submit
from aiflow_scheduler_event.store import Store

from .machine import Process

# Of a decision, what is compared.
_KEPT = (
    *("offset", "workflow_execution_id", "task_name", "what", "why", "cause", "number"),
    *("task_execution_id", "count", "first_offset"),
)


class Violation(AssertionError):
    """Something that must hold does not."""


@dataclass
class Truth:
    """What the log says, taken in by one engine from the first event to the last."""

    state: State
    changes: Changes

    @staticmethod
    def of(log: Iterable[Event]) -> "Truth":
        state, changes = State(namespaces={"default": Namespace("default")}), Changes()
        engine = Engine(state)
        for event in log:
            engine.apply(event, changes)
        return Truth(state, changes)


def check_log(log: list[Event], acknowledged: list[str]) -> None:
    """No gap, and what was acknowledged is there, once."""
    _equal("offsets", [event.offset for event in log], list(range(1, len(log) + 1)))
    counts = Counter(event.id for event in log)
    _equal("repeated events", [id for id, count in counts.items() if count > 1], [])
    _equal("acknowledged events that are lost", [i for i in acknowledged if i not in counts], [])


def check_processes(processes: list[Process], submitted: set[AttemptKey], *, claimed: bool) -> None:
    """Each attempt began at most once, because it was wanted, and after the one before it.

    Where attempts are not `claimed`, a power failure takes with it that one began; unless the
    scheduler had heard of it, it begins once more.
    """

    def is_forgotten(process: Process) -> bool:
        return process.vanished and not claimed

    counts = Counter(process.key for process in processes if not is_forgotten(process))
    _equal("attempts that began twice", [key for key, count in counts.items() if count > 1], [])
    _equal("attempts that nobody wanted", sorted({p.key for p in processes} - submitted), [])
    by_task: dict[tuple[int, str], list[Process]] = {}
    for process in processes:
        by_task.setdefault((process.key.workflow_execution_id, process.key.task_name), []).append(
            process
        )
    for attempts in by_task.values():
        for one, next_one in pairwise(attempts):
            if next_one.key <= one.key and not (is_forgotten(one) and next_one.key == one.key):
                raise Violation(f"{next_one.key} began after {one.key}")
            if one.ended is None or one.ended > next_one.began:
                raise Violation(f"{one.key} ran still when {next_one.key} began")


def check_state(store: Store, log: list[Event]) -> Truth:
    """The database holds what follows from the log: no decision is missing, none was made twice."""
    truth = Truth.of(log)
    state, waiting = store.read()
    _equal("the state", seen(state), seen(truth.state))
    _equal("messages that were not sent", waiting, [])
    published = [e.id for e in truth.changes.outbox if isinstance(e.message, Publish)]
    counts = Counter(event.id for event in log)
    _equal("published events", [counts[id] for id in published], [1] * len(published))
    with store.engine.connect() as connection:
        decision, reply = tables.decision, tables.reply
        rows = connection.execute(select(decision)).all()
        answers = set(connection.scalars(select(reply.c.request_id)))
        tasks = connection.execute(select(tables.task_execution)).all()
        executions = connection.execute(select(tables.workflow_execution)).all()
        letters = connection.execute(select(tables.dead_letter)).all()
    _equal(
        "decisions",
        sorted(tuple(getattr(row, name) for name in _KEPT) for row in rows),
        sorted(tuple(getattr(d, name) for name in _KEPT) for d in folded(truth.changes.decisions)),
    )
    _equal("answers", answers, {r.request_id for r in truth.changes.replies})
    _equal("dead letters", len(letters), len(truth.changes.dead_letters))
    _equal(
        "task executions",
        {row.id: (row.status, row.try_number) for row in tasks},
        {t.id: (t.status, t.try_number) for t in _last(truth, LiveTask)},
    )
    _equal(
        "workflow executions",
        {row.id: row.status for row in executions},
        {e.id: e.status for e in _last(truth, LiveExecution)},
    )
    return truth


def check_told(audiences: list[list[tuple[int, Any]]], truth: Truth) -> None:
    """Observers were told of each event at most once, in order, and nothing but what happened."""
    told = Counter(one for audience in audiences for one in audience)
    _equal("told more than once", [one for one, count in told.items() if count > 1], [])
    happened = {*truth.changes.told, *((n + 1, None) for n in range(truth.state.offset))}
    _equal("told though it is not so", [one for one in told if one not in happened], [])
    for audience in audiences:
        offsets = [offset for offset, _ in audience]
        _equal("the order in which it was told", offsets, sorted(offsets))
    if truth.state.offset and not told:
        raise Violation("nobody was told anything")


def unfinished(store: Store) -> list[str]:
    """What has not come to its end."""
    with store.engine.connect() as connection:
        tasks = connection.execute(select(tables.task_execution)).all()
        executions = connection.execute(select(tables.workflow_execution)).all()
    return [
        *(
            f"execution {row.id} {row.status}"
            for row in executions
            if row.status not in WORKFLOW_FINISHED
        ),
        *(
            f"task {row.workflow_execution_id}.{row.task_name} {row.status}"
            for row in tasks
            if row.status not in TASK_FINISHED
        ),
    ]


def submitted(truth: Truth) -> set[AttemptKey]:
    """Every attempt that was ever to be run."""
    return {e.message.request.key for e in truth.changes.outbox if isinstance(e.message, Submit)}


def seen(state: State) -> dict[str, Any]:
    """The state, in a form that can be compared."""
    return {
        **vars(state),
        "plans": {id: plan.snapshot for id, plan in state.plans.items()},
        "runs": {
            id: (run.execution, list(run.tasks.items()), run.evaluations, run.causes)
            for id, run in state.runs.items()
        },
        "states": {scope: kept for scope, kept in state.states.items() if kept},
    }


def _last(truth: Truth, cls: type) -> list[Any]:
    return [v for (c, _), v in truth.changes.stored.items() if c is cls and v is not None]


def _equal(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Violation(f"{what}: found {found!r}\nwanted {wanted!r}"[:3000])
