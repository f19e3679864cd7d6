"""The metadata store: one transaction for all that a step changes, and reading it back."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    bindparam,
    case,
    delete,
    insert,
    inspect,
    null,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError

from aiflow_core.crash import crash_point
from aiflow_core.database import (
    LogTransaction,
    SharesDatabase,
    TableUsage,
    check_current,
    downgrade,
    found_revision,
    migrate,
    migration_sql,
    open_engine,
    reachable,
    reason,
    shown,
    table_usage,
)
from aiflow_core.errors import AIFlowError, ConfigError, NotFoundError
from aiflow_core.model.decision import Decision
from aiflow_core.model.execution import (
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.status import TASK_ALIVE, TASK_FINISHED, WORKFLOW_FINISHED
from aiflow_scheduler_event import records, tables
from aiflow_scheduler_event.rules import Plan
from aiflow_scheduler_event.state import (
    Changes,
    ConditionState,
    Counters,
    DeadLetter,
    Evaluation,
    LetterKey,
    LiveExecution,
    LiveTask,
    OutboxEntry,
    Reply,
    Run,
    Scope,
    ScopeKind,
    State,
    TaskCause,
    Timer,
    TimerKey,
    key_of,
)

log = logging.getLogger(__name__)

PACKAGE = "aiflow_scheduler_event"
CONSUMER = "scheduler"

REPLIES_KEPT = 100_000
"""For so many offsets an answer is kept for a client that asks for it again."""

T = TypeVar("T", bound=msgspec.Struct)

_TABLES: dict[type, Table] = {
    Namespace: tables.namespace,
    WorkflowInfo: tables.workflow,
    WorkflowSnapshot: tables.workflow_snapshot,
    LiveExecution: tables.workflow_execution,
    LiveTask: tables.task_execution,
    WorkflowSchedule: tables.workflow_schedule,
    WorkflowTrigger: tables.workflow_event_trigger,
    Timer: tables.timer,
    ConditionState: tables.condition_state,
    Evaluation: tables.evaluation,
    TaskCause: tables.task_cause,
}

# Classes whose ids the engine counts: an id above the stored counter is a new row. A cause is
# written once, with its task execution, and has the same id.
_COUNTED: dict[type, str] = {
    WorkflowInfo: "workflow",
    WorkflowSnapshot: "snapshot",
    LiveExecution: "execution",
    LiveTask: "task",
    WorkflowSchedule: "schedule",
    WorkflowTrigger: "trigger",
    Evaluation: "evaluation",
    TaskCause: "task",
}

# A final status is final: the update of such a row finds nothing, and the step is refused.
_FINAL = {LiveExecution: WORKFLOW_FINISHED, LiveTask: TASK_FINISHED}


class LostRaceError(AIFlowError):
    """The database is not where this scheduler left it: somebody else has gone on."""

    code = "lost_race"


class UnstorableError(AIFlowError):
    """The database refuses a value: too long, out of range, or not text as it knows it."""

    code = "unstorable"


class Store:
    """Where the scheduler's state is kept.

    One thread writes (`load`, `commit`); the reading methods may be called from any.

    Attributes:
        log: the event log, where it is in the same database: then a step and the events that it
            publishes are one transaction. None: they go by the outbox.
    """

    log: SharesDatabase | None = None

    def __init__(self, uri: str, **pool: Any) -> None:
        """`pool`: as for `open_engine`."""
        self.uri = uri
        self.engine: Engine = open_engine(uri, **pool)
        self._known = Counters()
        self._statements = _Statements()

    # --- tables --------------------------------------------------------------------------------

    def initialize(self, revision: str = "head") -> None:
        """Make the tables, or bring them up to a revision, and the default namespace."""
        with reachable(self.uri):
            try:
                migrate(self.engine, PACKAGE, revision)
            except DatabaseError as error:
                if foreign := self._foreign_tables():
                    raise ConfigError(
                        f"The database {shown(self.uri)} has tables of something else already, as "
                        f"AIFlow 0.4 makes them: {', '.join(foreign)}.",
                        next_step="Name another one in `metadata_backend_uri`, or put this away.",
                    ) from error
                raise

    def _foreign_tables(self) -> list[str]:
        """The tables that have our names and are not ours."""
        if found_revision(self.engine, PACKAGE) is not None:
            return []
        there = inspect(self.engine).get_table_names()
        return sorted(tables.metadata.tables.keys() & set(there))

    def downgrade(self, revision: str) -> None:
        """Take the tables back to a revision; `base` removes them."""
        with reachable(self.uri):
            downgrade(self.engine, PACKAGE, revision)

    def revision(self) -> str | None:
        """The revision of the tables; None when there are none."""
        with reachable(self.uri):
            return found_revision(self.engine, PACKAGE)

    def sql(self, *revisions: str) -> str:
        """The SQL that would take the tables to each of the revisions, one after the other."""
        with reachable(self.uri):
            return migration_sql(self.engine, PACKAGE, *revisions)

    def check(self, init_command: str) -> None:
        """Raise `ConfigError` unless the tables are up to date."""
        check_current(self.engine, PACKAGE, uri=self.uri, init_command=init_command)

    def close(self) -> None:
        self.engine.dispose()

    def usage(self) -> list[TableUsage]:
        """How much the tables take."""
        return table_usage(self.engine, self.uri, [t.name for t in tables.metadata.sorted_tables])

    # --- the one writer ------------------------------------------------------------------------

    def load(self, epoch: int = 0) -> tuple[State, list[OutboxEntry]]:
        """The state as last committed, and the messages that are still to be sent, in order.

        From now on nobody with an older epoch can commit; `LostRaceError` when a newer one has been
        here already.
        """
        crash_point("scheduler.lead.before")
        with reachable(self.uri), self.engine.begin() as connection:
            if connection.execute(self._statements.lead, {"mine": epoch}).rowcount != 1:
                raise LostRaceError("Another server has taken over the scheduling.")
        crash_point("scheduler.lead.after")
        state, waiting = self.read()
        self._known = msgspec.structs.replace(state.counters)
        return state, waiting

    def read(self) -> tuple[State, list[OutboxEntry]]:
        """The same, for one who does not write."""
        with self.at_one_moment() as connection:
            state = _load_state(connection)
            entries = connection.execute(
                select(tables.outbox).order_by(tables.outbox.c.offset, tables.outbox.c.position)
            )
            waiting = [OutboxEntry(row.id, row.offset, row.message) for row in entries]
        return state, waiting

    def commit(
        self, before: int, state: State, changes: Changes, sent: Iterable[str], epoch: int = 0
    ) -> list[OutboxEntry]:
        """Make a step durable, in one transaction: all of it or nothing.

        Args:
            before: the offset at which the step began.
            state: the state after the step, for its offset and its counters.
            sent: ids of the outbox entries that have been delivered.
            epoch: of the leader. When the database has another one, or stands at another offset
                than `before`, somebody else has gone on, and the step is refused with
                `LostRaceError`.

        Returns the messages that are to be delivered now.

        `UnavailableError` when the database does not answer, `UnstorableError` when it can never
        keep what is to be kept.
        """
        crash_point("scheduler.commit.before")
        with self._writing() as (connection, log):
            self._advance(connection, before, state, epoch)
            self._write_stored(connection, changes)
            left = changes.outbox
            if log is not None:
                left = [entry for entry in changes.outbox if not entry.is_kept]
                log.append([entry.event for entry in changes.outbox if entry.is_kept])
            self._write_lists(connection, changes, [e for e in left if e.is_kept], list(sent))
            _erase(connection, changes)
            crash_point("scheduler.commit.within")
        crash_point("scheduler.commit.after")
        self._known = msgspec.structs.replace(state.counters)
        return left

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, LogTransaction | None]]:
        if self.log is None:
            with reachable(self.uri), _storable(), self.engine.begin() as connection:
                yield connection, None
        else:
            with _storable(), self.log.transaction() as transaction:
                yield transaction.connection, transaction

    def _advance(self, connection: Connection, before: int, state: State, epoch: int) -> None:
        result = connection.execute(
            self._statements.advance,
            {
                "before": before,
                "mine": epoch,
                "last_seq": state.offset,
                "counters": msgspec.structs.asdict(state.counters),
            },
        )
        if result.rowcount != 1:
            raise LostRaceError("Another server has gone on with the scheduling.")

    def _write_stored(self, connection: Connection, changes: Changes) -> None:
        puts: dict[type, list[Any]] = defaultdict(list)
        for (cls, key), value in changes.stored.items():
            if value is None:
                self._delete(connection, cls, key)
            else:
                puts[cls].append(value)
        for cls, values in puts.items():
            self._put(connection, cls, values)

    def _put(self, connection: Connection, cls: type, values: list[Any]) -> None:
        statements = self._statements
        counter = _COUNTED.get(cls)
        if counter is None:
            for value in values:
                self._delete(connection, cls, key_of(value))
            connection.execute(statements.insert[cls], [_to_row(v) for v in values])
            return
        known: int = getattr(self._known, counter)
        new = [_to_row(v) for v in values if v.id > known]
        old = [_to_row(v) for v in values if v.id <= known]
        if new:
            connection.execute(statements.insert[cls], new)
        for row in old:
            row["key_id"] = row.pop("id")
            if connection.execute(statements.update[cls], row).rowcount != 1:
                raise LostRaceError(
                    f"The {cls.__name__} {row['key_id']} is not in the database as it was left."
                )

    def _delete(self, connection: Connection, cls: type, key: Any) -> None:
        if cls is WorkflowSnapshot:
            orphan_bundles(connection, tables.workflow_snapshot.c.id == key)
        connection.execute(self._statements.delete[cls], _key_row(cls, key))

    def _write_lists(
        self, connection: Connection, changes: Changes, kept: list[OutboxEntry], sent: list[str]
    ) -> None:
        statements = self._statements
        if sent:
            connection.execute(statements.delete_outbox, [{"key_id": i} for i in sent])
        if kept:
            rows = [
                {"id": e.id, "offset": e.offset, "position": n, "message": e.message}
                for n, e in enumerate(kept)
            ]
            connection.execute(statements.insert_outbox, rows)
        if changes.decisions:
            records.write(connection, changes.decisions)
        self._strike_letters(connection, changes)
        if changes.dead_letters:
            rows = [msgspec.structs.asdict(letter) for letter in changes.dead_letters]
            connection.execute(statements.insert_dead_letter, rows)
        if changes.replies:
            answers = [
                {"request_id": r.request_id, "offset": r.offset, "body": r} for r in changes.replies
            ]
            connection.execute(statements.insert_reply, answers)
            oldest = changes.replies[-1].offset - REPLIES_KEPT
            connection.execute(statements.delete_replies, {"oldest": oldest})

    def _strike_letters(self, connection: Connection, changes: Changes) -> None:
        """Delete the letters that are taken up again or dropped."""
        statement = self._statements.delete_dead_letter
        for key in changes.redriven_letters:
            if connection.execute(statement, _letter_row(key)).rowcount != 1:
                raise UnstorableError(
                    f"The dead letter {key.offset}, {key.consumer} is there no more: another "
                    "request has redriven or dropped it."
                )
        if changes.dropped_letters:
            connection.execute(statement, [_letter_row(key) for key in changes.dropped_letters])

    # --- reading -------------------------------------------------------------------------------

    def reply(self, request_id: str) -> Reply | None:
        """The answer to a command that was carried out, None when it was not (yet)."""
        table = tables.reply
        with reachable(self.uri), self._reading() as connection:
            found: Reply | None = connection.scalar(
                select(table.c.body).where(table.c.request_id == request_id)
            )
            return found

    def namespace(self, name: str) -> Namespace:
        return self._one(Namespace, "namespace", name, name=name)

    def namespaces(self, limit: int | None, offset: int) -> list[Namespace]:
        query = select(tables.namespace).order_by(tables.namespace.c.name)
        return self._list(Namespace, query, limit, offset)

    def workflow(self, namespace: str, name: str) -> WorkflowInfo:
        return self._one(
            WorkflowInfo,
            "workflow",
            f"{namespace}.{name}",
            namespace=namespace,
            workflow_name=name,
        )

    def workflows(self, namespace: str, limit: int | None, offset: int) -> list[WorkflowInfo]:
        table = tables.workflow
        query = select(table).where(table.c.namespace == namespace).order_by(table.c.id)
        return self._list(WorkflowInfo, query, limit, offset)

    def one(self, cls: type[T], kind: str, id: int) -> T:
        """The value of that class and id."""
        return self._one(cls, kind, id, id=id)

    def of(
        self, cls: type[T], owner: str, owner_id: int, limit: int | None = None, offset: int = 0
    ) -> list[T]:
        """The values of that class whose column `owner` is `owner_id`, oldest first."""
        table = _READ_TABLES[cls]
        query = select(table).where(table.c[owner] == owner_id).order_by(table.c.id)
        return self._list(cls, query, limit, offset)

    def execution_state(self, execution_id: int, name: str) -> str | None:
        """The value of a state of an execution; None when there is none."""
        states = tables.condition_state
        query = select(states.c.value).where(
            states.c.scope_kind == ScopeKind.EXECUTION,
            states.c.scope_id == execution_id,
            states.c.name == name,
        )
        with reachable(self.uri), self._reading() as connection:
            value: str | None = connection.scalar(query)
            return value

    def decisions(self, execution_id: int, task_name: str) -> list[Decision]:
        """Why a task of an execution did what it did, oldest first."""
        with reachable(self.uri), self._reading() as connection:
            return records.of_task(connection, execution_id, task_name)

    def dead_letters(self, limit: int | None = None, offset: int = 0) -> list[DeadLetter]:
        """The events that could not be taken in, in the order of the log, without what would be
        needed to take them up again."""
        columns = [null().label(c.name) if c.name == "evaluation" else c for c in _LETTER.c]
        query = select(*columns).order_by(_LETTER.c.offset, _LETTER.c.consumer)
        return self._list(DeadLetter, query, limit, offset)

    def dead_letters_of(self, event_offset: int, consumer: str | None = None) -> list[DeadLetter]:
        """All letters of an event, or that of one consumer; `NotFoundError` when there is none."""
        query = select(_LETTER).where(_LETTER.c.offset == event_offset)
        if consumer is not None:
            query = query.where(_LETTER.c.consumer == consumer)
        letters = self._list(DeadLetter, query.order_by(_LETTER.c.consumer), None, 0)
        if not letters:
            whose = f"{event_offset}, {consumer}" if consumer else str(event_offset)
            raise NotFoundError("dead letter", whose)
        return letters

    @contextmanager
    def at_one_moment(self) -> Iterator[Connection]:
        """To read everything as it stands now; on SQLite each transaction does."""
        connection = self.engine.connect()
        if self.engine.dialect.name != "sqlite":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with reachable(self.uri), connection:
            yield connection

    def _reading(self) -> Any:
        return self.engine.connect().execution_options(read_only=True)

    def _one(self, cls: type[T], kind: str, shown: object, **where: Any) -> T:
        table = _READ_TABLES[cls]
        query = select(table).where(*(table.c[c] == v for c, v in where.items()))
        with reachable(self.uri), self._reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError(kind, shown)
        return from_row(cls, row)

    def _list(self, cls: type[T], query: Select[Any], limit: int | None, offset: int) -> list[T]:
        if limit is not None or offset:
            # MySQL knows no OFFSET without LIMIT.
            query = query.limit(2**62 if limit is None else limit).offset(offset)
        with reachable(self.uri), self._reading() as connection:
            return [from_row(cls, row) for row in connection.execute(query)]


@contextmanager
def _storable() -> Iterator[None]:
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise UnstorableError(f"The database refuses this: {reason(error)}.") from error
    except (OverflowError, ValueError) as error:
        # What the drivers say of a number or a text before it gets to the database.
        raise UnstorableError(f"The database refuses this: {error}.") from error


_LETTER = tables.dead_letter

_READ_TABLES: dict[type, Table] = {
    **_TABLES,
    WorkflowExecution: tables.workflow_execution,
    TaskExecution: tables.task_execution,
}


class _Statements:
    """The statements of the hot path, built once."""

    def __init__(self) -> None:
        consumer = tables.consumer
        self.lead = (
            update(consumer)
            .where(consumer.c.name == CONSUMER, consumer.c.epoch <= bindparam("mine"))
            .values(epoch=bindparam("mine"))
        )
        self.advance = (
            update(consumer)
            .where(
                consumer.c.name == CONSUMER,
                consumer.c.epoch == bindparam("mine"),
                consumer.c.last_seq == bindparam("before"),
            )
            .values(last_seq=bindparam("last_seq"), counters=bindparam("counters"))
        )
        self.insert = {cls: insert(table) for cls, table in _TABLES.items()}
        self.update = {cls: self._update(cls) for cls in _COUNTED}
        self.delete = {
            cls: delete(table).where(*(c == bindparam(f"key_{c.name}") for c in table.primary_key))
            for cls, table in _TABLES.items()
        }
        self.insert_outbox = insert(tables.outbox)
        self.delete_outbox = delete(tables.outbox).where(tables.outbox.c.id == bindparam("key_id"))
        self.delete_dead_letter = delete(_LETTER).where(
            *(column == bindparam(f"key_{column.name}") for column in _LETTER.primary_key)
        )
        self.insert_dead_letter = insert(tables.dead_letter)
        self.insert_reply = insert(tables.reply)
        self.delete_replies = delete(tables.reply).where(
            tables.reply.c.offset < bindparam("oldest")
        )

    @staticmethod
    def _update(cls: type) -> Any:
        table = _TABLES[cls]
        statement = update(table).where(table.c.id == bindparam("key_id"))
        if cls in _FINAL:
            statement = statement.where(table.c.status.not_in(_FINAL[cls]))
        values: dict[str, Any] = {
            c.name: bindparam(c.name) for c in table.columns if c.name != "id"
        }
        if cls is LiveTask:
            # Who has claimed an attempt has not claimed the next one. The column stands before that
            # of the try number, because MySQL would compare with the new number otherwise.
            values["worker"] = case(
                (table.c.try_number == bindparam("try_number"), table.c.worker), else_=""
            )
        return statement.values(values)


def _to_row(value: Any) -> dict[str, Any]:
    match value:
        case Timer(key=key, fire_at=fire_at):
            return {**msgspec.structs.asdict(key), "fire_at": fire_at}
        case ConditionState(scope=scope, name=name, value=text):
            return {"scope_kind": scope.kind, "scope_id": scope.id, "name": name, "value": text}
        case Evaluation(id=id):
            return {"id": id, "body": value}
        case _:
            return msgspec.structs.asdict(value)


def from_row(cls: type[T], row: Any) -> T:
    """The value of that class which the row holds, whatever else is in it."""
    values = row._mapping
    return cls(**{field: values[field] for field in cls.__struct_fields__})


def _key_row(cls: type, key: Any) -> dict[str, Any]:
    match key:
        case TimerKey():
            return {f"key_{k}": v for k, v in msgspec.structs.asdict(key).items()}
        case (Scope() as scope, name):
            return {"key_scope_kind": scope.kind, "key_scope_id": scope.id, "key_name": name}
        case str():
            return {"key_name": key}
        case _:
            return {"key_id": key}


def _letter_row(key: LetterKey) -> dict[str, Any]:
    return {f"key_{name}": value for name, value in msgspec.structs.asdict(key).items()}


def _load_state(connection: Connection) -> State:
    consumer = connection.execute(
        select(tables.consumer).where(tables.consumer.c.name == CONSUMER)
    ).one()
    state = State(offset=consumer.last_seq, counters=Counters(**consumer.counters))

    def all_of(cls: type[T], query: Select[Any]) -> list[T]:
        return [from_row(cls, row) for row in connection.execute(query)]

    # In the order in which they were made, because the engine goes by it.
    for namespace in all_of(Namespace, select(tables.namespace)):
        state.namespaces[namespace.name] = namespace
    for workflow in all_of(WorkflowInfo, _by_id(tables.workflow)):
        state.workflows[workflow.id] = workflow
    for schedule in all_of(WorkflowSchedule, _by_id(tables.workflow_schedule)):
        state.schedules[schedule.id] = schedule
    for trigger in all_of(WorkflowTrigger, _by_id(tables.workflow_event_trigger)):
        state.triggers[trigger.id] = trigger
    for row in connection.execute(select(tables.timer)):
        key = TimerKey(row.kind, row.owner, row.task_name)
        state.timers[key] = Timer(key, row.fire_at)
    for row in connection.execute(select(tables.condition_state)):
        scope = Scope(row.scope_kind, row.scope_id)
        state.states.setdefault(scope, {})[row.name] = ConditionState(scope, row.name, row.value)
    evaluations = _by_id(tables.evaluation).with_only_columns(tables.evaluation.c.body)
    for body in connection.scalars(evaluations):
        state.evaluations[body.id] = body
    _load_runs(connection, state)
    return state


def _by_id(table: Table) -> Select[Any]:
    return select(table).order_by(table.c.id)


def _load_runs(connection: Connection, state: State) -> None:
    open_executions = (
        select(tables.workflow_execution)
        .where(tables.workflow_execution.c.status.not_in(WORKFLOW_FINISHED))
        .order_by(tables.workflow_execution.c.id)
    )
    executions = [from_row(LiveExecution, row) for row in connection.execute(open_executions)]
    newest: dict[int, int] = {}
    snapshots = tables.workflow_snapshot
    for row in connection.execute(select(snapshots.c.id, snapshots.c.workflow_id)):
        newest[row.workflow_id] = max(row.id, newest.get(row.workflow_id, 0))
    state.current = newest
    wanted = sorted({*newest.values(), *(e.snapshot_id for e in executions)})
    for chunk in chunks(wanted, 500):
        for row in connection.execute(select(snapshots).where(snapshots.c.id.in_(chunk))):
            state.plans[row.id] = Plan(from_row(WorkflowSnapshot, row))
    for execution in executions:
        state.runs[execution.id] = Run(execution, state.plans[execution.snapshot_id])
    tasks = tables.task_execution
    of_open = (
        select(tasks)
        .join(
            tables.workflow_execution,
            tables.workflow_execution.c.id == tasks.c.workflow_execution_id,
        )
        .where(tables.workflow_execution.c.status.not_in(WORKFLOW_FINISHED))
        .order_by(tasks.c.id)
    )
    for row in connection.execute(of_open):
        # In the order of their ids, so that the latest of each task stays.
        task = from_row(LiveTask, row)
        state.runs[task.workflow_execution_id].tasks[task.task_name] = task
    _load_causes(connection, state)
    for evaluation in state.evaluations.values():
        run = state.runs.get(evaluation.scope.id) if not evaluation.trigger_id else None
        if run is not None:
            run.evaluations += 1


def _load_causes(connection: Connection, state: State) -> None:
    """The events of the task executions that are alive: their attempts may be handed over again."""
    causes, executions = tables.task_cause, tables.workflow_execution
    of_open = (
        select(causes)
        .join(executions, executions.c.id == causes.c.workflow_execution_id)
        .where(executions.c.status.not_in(WORKFLOW_FINISHED))
    )
    alive = {live.id: (run, live.task_name) for run, live in alive_tasks(state)}
    for row in connection.execute(of_open):
        if row.id in alive:
            run, task_name = alive[row.id]
            run.causes[task_name] = row.events


def _erase(connection: Connection, changes: Changes) -> None:
    """Delete what goes with an execution or a workflow; last, so that what the same transaction
    wrote of it goes too."""
    for execution_id in changes.erased_executions:
        erase_execution(connection, execution_id)
    for (cls, key), value in changes.stored.items():
        if cls is WorkflowInfo and value is None:
            _erase_workflow(connection, key)


def orphan_bundles(connection: Connection, which: ColumnElement[bool]) -> None:
    """Note the code of snapshots that are about to be deleted, see `history`."""
    snapshots = tables.workflow_snapshot
    theirs = select(snapshots.c.bundle).where(which, snapshots.c.bundle.is_not(None))
    connection.execute(insert(tables.orphaned_bundle).from_select(["bundle"], theirs))


def erase_execution(connection: Connection, execution_id: int) -> None:
    """Delete an execution that has ended, with its tasks and decisions."""
    for table, column in (
        (tables.task_execution, tables.task_execution.c.workflow_execution_id),
        (tables.task_cause, tables.task_cause.c.workflow_execution_id),
        (tables.decision, tables.decision.c.workflow_execution_id),
        (tables.workflow_execution, tables.workflow_execution.c.id),
    ):
        connection.execute(delete(table).where(column == execution_id))


def _erase_workflow(connection: Connection, workflow_id: int) -> None:
    executions = tables.workflow_execution
    query = select(executions.c.id).where(executions.c.workflow_id == workflow_id)
    for execution_id in list(connection.scalars(query)):
        erase_execution(connection, execution_id)
    records.erase(connection, workflow_id)
    snapshots, states = tables.workflow_snapshot, tables.condition_state
    orphan_bundles(connection, snapshots.c.workflow_id == workflow_id)
    connection.execute(delete(snapshots).where(snapshots.c.workflow_id == workflow_id))
    connection.execute(
        delete(states).where(states.c.scope_kind == "WORKFLOW", states.c.scope_id == workflow_id)
    )


def chunks(items: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


LONGEST_REASON = 4000
"""Characters that are kept of what somebody else says about why something ended or failed."""


def storable(reason: str) -> str:
    """The reason in a form that every database can keep: valid Unicode, no NUL, not endless."""
    text = reason.encode(errors="replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} [...]"


def alive_tasks(state: State) -> list[tuple[Run, LiveTask]]:
    """Every task of every running execution that has not come to an end, in order of their ids."""
    found = [(run, t) for run in state.runs.values() for t in run.tasks.values()]
    return sorted(
        ((run, t) for run, t in found if t.status in TASK_ALIVE), key=lambda pair: pair[1].id
    )
