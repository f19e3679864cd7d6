"""What has ended, and is deleted when it is old enough.

Each method deletes a few things at most, in one transaction under the epoch of the leader: who
leads no more is refused, and a crash leaves a part of it to the next time. What runs is never
touched, so the engine need not know: of what has ended it remembers nothing.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, exists, func, select, update

from aiflow_core.clock import to_datetime
from aiflow_core.crash import crash_point
from aiflow_core.database import database_ms, reachable
from aiflow_core.model.status import TASK_FINISHED, WORKFLOW_FINISHED
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.store import (
    CONSUMER,
    LostRaceError,
    chunks,
    erase_execution,
    orphan_bundles,
)

_EXECUTION = tables.workflow_execution
_TASK = tables.task_execution
_SNAPSHOT = tables.workflow_snapshot
_LETTER = tables.dead_letter


class History:
    """The finished part of a scheduler's metadata. Times are milliseconds since the epoch; all
    methods raise `UnavailableError` when the database does not answer."""

    def __init__(self, engine: Engine, uri: str) -> None:
        self._engine = engine
        self._uri = uri

    # --- deleting, as the leader -----------------------------------------------------------------

    def erase_executions(self, epoch: int, before_ms: int, most: int) -> int:
        """Workflow executions that ended before that, with their tasks and decisions; how many."""
        ended = (
            select(_EXECUTION.c.id)
            .where(
                _EXECUTION.c.status.in_(WORKFLOW_FINISHED),
                _EXECUTION.c.end_date < to_datetime(before_ms),
            )
            .order_by(_EXECUTION.c.id)
            .limit(most)
        )
        ids = self._found(ended)
        if ids:
            with self._leading(epoch) as connection:
                for (execution_id,) in ids:
                    erase_execution(connection, execution_id)
        return len(ids)

    def erase_task_executions(self, epoch: int, before_ms: int, most: int) -> int:
        """Task executions that ended before that and are not the latest of their task; how many."""
        later = _TASK.alias()
        ended = (
            select(_TASK.c.id)
            .where(
                _TASK.c.status.in_(TASK_FINISHED),
                _TASK.c.end_date < to_datetime(before_ms),
                exists().where(
                    later.c.workflow_execution_id == _TASK.c.workflow_execution_id,
                    later.c.task_name == _TASK.c.task_name,
                    later.c.sequence_number > _TASK.c.sequence_number,
                ),
            )
            .limit(most)
        )
        return self._erase_by_id(epoch, (_TASK, tables.task_cause), ended)

    def erase_decisions(self, epoch: int, before_offset: int, most: int) -> int:
        """Decisions on older events that belong to no execution; how many. Those of an execution go
        with it."""
        table = tables.decision
        old = (
            select(table.c.id)
            .where(table.c.workflow_execution_id == 0, table.c.offset < before_offset)
            .limit(most)
        )
        return self._erase_by_id(epoch, (table,), old)

    def erase_dead_letters(self, epoch: int, before_ms: int, most: int) -> int:
        """Letters that were written before that; how many."""
        old = (
            select(_LETTER.c.offset, _LETTER.c.consumer)
            .where(_LETTER.c.create_time < to_datetime(before_ms))
            .limit(most)
        )
        keys = self._found(old)
        if keys:
            with self._leading(epoch) as connection:
                for offset, consumer in keys:
                    letter = (_LETTER.c.offset == offset, _LETTER.c.consumer == consumer)
                    connection.execute(delete(_LETTER).where(*letter))
        return len(keys)

    def erase_snapshots(self, epoch: int, before_ms: int, most: int) -> int:
        """Snapshots in whose place another one came before that, and that no execution belongs to;
        how many."""
        newer = _SNAPSHOT.alias()
        unused = (
            select(_SNAPSHOT.c.id)
            .where(
                exists().where(
                    newer.c.workflow_id == _SNAPSHOT.c.workflow_id,
                    newer.c.id > _SNAPSHOT.c.id,
                    newer.c.create_time < to_datetime(before_ms),
                ),
                ~exists().where(_EXECUTION.c.snapshot_id == _SNAPSHOT.c.id),
            )
            .order_by(_SNAPSHOT.c.id)
            .limit(most)
        )
        ids = [id for (id,) in self._found(unused)]
        if ids:
            with self._leading(epoch) as connection:
                orphan_bundles(connection, _SNAPSHOT.c.id.in_(ids))
                connection.execute(delete(_SNAPSHOT).where(_SNAPSHOT.c.id.in_(ids)))
        return len(ids)

    def forget_bundles(self, epoch: int, most: int, forget: Callable[[str], None]) -> int:
        """Bundles of snapshots that are gone; how many. `forget` is given the uri of each that no
        other snapshot has; nobody can submit a workflow meanwhile."""
        table = tables.orphaned_bundle
        orphans = self._found(select(table).order_by(table.c.id).limit(most))
        if orphans:
            with self._leading(epoch) as connection:
                bundles = connection.scalars(select(_SNAPSHOT.c.bundle))
                kept = {bundle.uri for bundle in bundles if bundle}
                for uri in {row.bundle.uri for row in orphans} - kept:
                    # Before the commit: after a crash it is done again, and the uri is still known.
                    forget(uri)
                ids = [row.id for row in orphans]
                connection.execute(delete(table).where(table.c.id.in_(ids)))
        return len(orphans)

    # --- looking ---------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The time of the database."""
        with self._reading() as connection:
            return int(connection.execute(select(database_ms())).scalar_one())

    def first_needed_offset(self) -> int:
        """No event from here on may be forgotten: not yet taken in, or the subject of a letter or
        of a condition that is being evaluated."""
        with self._reading() as connection:
            taken_in: int = connection.execute(
                select(tables.consumer.c.last_seq).where(tables.consumer.c.name == CONSUMER)
            ).scalar_one()
            letter: int | None = connection.scalar(select(func.min(_LETTER.c.offset)))
            bodies = connection.scalars(select(tables.evaluation.c.body))
            offsets: list[int] = [body.event.offset for body in bodies]
        return min([taken_in + 1, *offsets, *([] if letter is None else [letter])])

    def missing(self, execution_ids: Collection[int]) -> set[int]:
        """Those of the workflow executions that were there, and are no more."""
        with self._reading() as connection:
            found: set[int] = set()
            for some in chunks(sorted(execution_ids), 500):
                query = select(_EXECUTION.c.id).where(_EXECUTION.c.id.in_(some))
                found.update(connection.scalars(query))
            counters: dict[str, int] = connection.execute(
                select(tables.consumer.c.counters).where(tables.consumer.c.name == CONSUMER)
            ).scalar_one()
        # What this database has never heard of is not its own to judge.
        return {i for i in execution_ids if i <= counters.get("execution", 0)} - found

    # --- inside ----------------------------------------------------------------------------------

    def _erase_by_id(self, epoch: int, of: Sequence[Table], query: Any) -> int:
        """Delete the ids that the query finds from the tables."""
        ids = [id for (id,) in self._found(query)]
        if ids:
            with self._leading(epoch) as connection:
                for table, some in product(of, list(chunks(ids, 500))):
                    connection.execute(delete(table).where(table.c.id.in_(some)))
        return len(ids)

    def _found(self, query: Any) -> Sequence[Any]:
        """Looked for before the transaction, which others wait for: what has ended stays ended."""
        with self._reading() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _leading(self, epoch: int) -> Iterator[Connection]:
        """A transaction of the leader; while it lasts, no step is committed."""
        mine = (
            update(tables.consumer)
            .where(tables.consumer.c.name == CONSUMER, tables.consumer.c.epoch == epoch)
            .values(epoch=epoch)
        )
        with reachable(self._uri), self._engine.begin() as connection:
            if connection.execute(mine).rowcount != 1:
                raise LostRaceError("Another server has taken over the scheduling.")
            yield connection
            crash_point("history.commit.before")
        crash_point("history.commit.after")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with reachable(self._uri), self._engine.connect() as connection:
            yield connection.execution_options(read_only=True)
