"""The decision records in the database: written with each step, read when somebody asks why."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, and_, bindparam, delete, insert, or_, select, update

from aiflow_core.model.decision import FOLDED, Cause, Decision, Outcome
from aiflow_scheduler_event import tables

_TABLE = tables.decision

_ALIKE = ("workflow_execution_id", "task_name", "cause", "number", "what")
"""Decisions that agree in these are alike."""

_LATEST = ("offset", "why", "time", "task_execution_id", "missing", "answer_offset")
"""What the latest of them says for all."""

_insert = insert(_TABLE)
_fold = (
    update(_TABLE)
    .where(*(_TABLE.c[name] == bindparam(f"key_{name}") for name in _ALIKE))
    .values(
        {name: bindparam(f"new_{name}") for name in _LATEST}
        | {"count": _TABLE.c["count"] + bindparam("more")}
    )
)

_STARTS = (Outcome.START, Outcome.RESTART, Outcome.RESTARTED)

# Of records that cover an event among others no more than so many are looked for.
_MOST_COVERING = 100


def write(connection: Connection, decisions: Sequence[Decision]) -> None:
    """Add what was decided in a step; what is folded goes to the record that is there."""
    if kept := [_row(d) for d in decisions if d.what not in FOLDED]:
        connection.execute(_insert, kept)
    for decision in folded(d for d in decisions if d.what in FOLDED):
        row = _row(decision)
        keys = {f"key_{name}": row[name] for name in _ALIKE}
        latest = {f"new_{name}": row[name] for name in _LATEST}
        found = connection.execute(_fold, {**keys, **latest, "more": decision.count})
        if found.rowcount == 0:
            connection.execute(_insert, row)


def folded(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions as they are kept: those that can be folded and are alike as one, at the place
    of the first of them."""
    kept: dict[Any, Decision] = {}
    for place, decision in enumerate(decisions):
        if decision.what not in FOLDED:
            kept[place] = decision
            continue
        key = tuple(getattr(decision, name) for name in _ALIKE)
        first = kept.get(key, decision)
        kept[key] = msgspec.structs.replace(
            decision,
            count=1 if first is decision else first.count + 1,
            first_offset=first.first_offset or first.offset,
            first_time=first.first_time or first.time,
        )
    return list(kept.values())


def of_task(connection: Connection, execution_id: int, task_name: str) -> list[Decision]:
    """Why a task of an execution did what it did, oldest first. An empty name: the execution."""
    c = _TABLE.c
    return _read(
        connection,
        select(_TABLE).where(c.workflow_execution_id == execution_id, c.task_name == task_name),
    )


def of_event(connection: Connection, offset: int) -> list[Decision]:
    """What followed from an event, and the records which cover events before and after it, so that
    it may be among them."""
    c = _TABLE.c
    own = select(_TABLE).where(or_(c.offset == offset, c.answer_offset == offset))
    covering = select(_TABLE).where(
        and_(c.offset > offset, c.first_offset > 0, c.first_offset <= offset)
    )
    return _read(connection, own) + _read(connection, covering.limit(_MOST_COVERING))


def of_matches(
    connection: Connection, offset: int, until: int, looked: Iterable[Decision]
) -> list[Decision]:
    """The decisions to start something for a match of which the event was part, made when another
    came, up to the event `until`. `looked` are the decisions on the event: only what looked at it
    and found that more was missing can have made such a match later."""
    found: dict[tuple[int, int, int], Decision] = {}
    for decision in looked:
        if decision.what is not Outcome.NOT_MET or not decision.missing:
            continue
        for later in _starts(connection, decision, offset, until):
            if offset in _events_of(connection, later):
                found[later.offset, later.workflow_execution_id, later.task_execution_id] = later
    return sorted(found.values(), key=lambda later: later.offset)


def _starts(
    connection: Connection, decision: Decision, offset: int, until: int
) -> Iterable[Decision]:
    """What was started after an event by whatever has made that decision on it."""
    c = _TABLE.c
    query = select(_TABLE).where(c.offset > offset, c.offset <= until, c.what.in_(_STARTS))
    if decision.cause is Cause.TRIGGER:
        query = query.where(c.cause == Cause.TRIGGER, c.number == decision.number)
    else:
        # Not by the number of the rule: the events of a restart go to what is started in the end.
        whose = (decision.workflow_execution_id, decision.task_name)
        query = query.where(c.workflow_execution_id == whose[0], c.task_name == whose[1])
    return _read(connection, query.limit(_MOST_COVERING))


def _events_of(connection: Connection, start: Decision) -> set[int]:
    """The offsets of the events for which a task, or the tasks of an execution, were started."""
    c = tables.task_cause.c
    execution, task = start.workflow_execution_id, start.task_execution_id
    wanted = c.id == task if start.task_name else c.workflow_execution_id == execution
    causes = connection.scalars(select(c.events).where(wanted).limit(1))
    return {event.offset for events in causes for event in events}


def of_no_execution(connection: Connection, workflow_id: int, what: Outcome) -> list[Decision]:
    """The decisions of that kind on a workflow of which no execution came."""
    c = _TABLE.c
    return _read(
        connection,
        select(_TABLE).where(
            c.workflow_execution_id == 0,
            c.task_name == "",
            c.what == what,
            c.workflow_id == workflow_id,
        ),
    )


def erase(connection: Connection, workflow_id: int) -> None:
    """Delete the decisions on a workflow of which no execution came; those on an execution go with
    it."""
    c = _TABLE.c
    chosen = and_(c.workflow_execution_id == 0, c.workflow_id == workflow_id)
    connection.execute(delete(_TABLE).where(chosen))


def _read(connection: Connection, query: Select[Any]) -> list[Decision]:
    return [_decision(row) for row in connection.execute(query.order_by(_TABLE.c.id))]


def _row(decision: Decision) -> dict[str, Any]:
    # Most miss nothing: it is not worth the while to write that down.
    return {**msgspec.structs.asdict(decision), "missing": decision.missing or None}


def _decision(row: Any) -> Decision:
    values = dict(row._mapping)
    del values["id"]
    return Decision(**{**values, "missing": values["missing"] or ()})
