"""The tables, with the column types that turn values of the model into what SQL can keep."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from aiflow_core.clock import to_datetime, to_ms
from aiflow_core.model.condition import AnyCondition, Lack
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.event import Event
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.schedule import ScheduleOptions
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import ExecutionType, TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.specs.event_store import LONGEST
from aiflow_scheduler_event.state import (
    Evaluation,
    Intent,
    Message,
    Reply,
    ScopeKind,
    TimerKind,
)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as milliseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_ms(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else to_datetime(value)


class Json(TypeDecorator[Any]):
    """A value of the model, kept as JSON text."""

    impl = Text
    cache_ok = True

    def __init__(self, type: Any) -> None:
        super().__init__()
        self.type = type

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # MySQL's TEXT ends at 64 KiB; a definition may be larger.
        return dialect.type_descriptor(LONGTEXT() if dialect.name == "mysql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else decode(value, self.type)


class Word(TypeDecorator[Any]):
    """A member of an enumeration, kept as its text."""

    impl = String
    cache_ok = True

    def __init__(self, type: Any) -> None:
        super().__init__(16)
        self.type = type

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else self.type(value)


class Exact(TypeDecorator[str]):
    """Text that equals another only when each of its characters does, as in Python."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._length = length

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(String(self._length))
        # Otherwise MySQL and MariaDB overlook capitals and closing spaces.
        is_mariadb = getattr(dialect, "is_mariadb", False)
        collation = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
        return dialect.type_descriptor(String(self._length, collation=collation))


metadata = MetaData()

_Name = Exact(200)
_Long = Text().with_variant(LONGTEXT(), "mysql")


def _table(name: str, *columns: Any) -> Table:
    return Table(name, metadata, *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4")


namespace = _table(
    "namespace",
    Column("name", _Name, primary_key=True),
    Column("properties", Json(dict[str, Any]), nullable=False),
)

workflow = _table(
    "workflow",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_name", _Name, nullable=False),
    Column("namespace", _Name, nullable=False),
    Column("create_time", Moment, nullable=False),
    Column("update_time", Moment, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("event_offset", BigInteger, nullable=False),
    UniqueConstraint("namespace", "workflow_name"),
)

workflow_snapshot = _table(
    "workflow_snapshot",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_id", BigInteger, nullable=False, index=True),
    Column("create_time", Moment, nullable=False),
    Column("definition", Json(WorkflowDefinition), nullable=False),
    Column("bundle", Json(BundleRef | None)),
)

# Code of snapshots that are gone, until it is known that no other snapshot has the same.
orphaned_bundle = _table(
    "orphaned_bundle",
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("bundle", Json(BundleRef), nullable=False),
)

workflow_execution = _table(
    "workflow_execution",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_id", BigInteger, nullable=False),
    Column("begin_date", Moment, nullable=False),
    Column("end_date", Moment),
    Column("status", Word(WorkflowStatus), nullable=False),
    Column("run_type", Word(ExecutionType), nullable=False),
    Column("snapshot_id", BigInteger, nullable=False),
    Column("event_offset", BigInteger, nullable=False),
    Column("reason", _Long, nullable=False),
    Column("stopping", Boolean, nullable=False),
    Index("ix_workflow_execution_workflow", "workflow_id", "id"),
    Index("ix_workflow_execution_status", "status"),
)

task_execution = _table(
    "task_execution",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_execution_id", BigInteger, nullable=False),
    Column("task_name", _Name, nullable=False),
    Column("sequence_number", Integer, nullable=False),
    # The server that has claimed the current attempt; empty where none has, or none needs to.
    Column("worker", String(64), nullable=False, server_default=""),
    Column("try_number", Integer, nullable=False),
    Column("begin_date", Moment),
    Column("end_date", Moment),
    Column("status", Word(TaskStatus), nullable=False),
    Column("reason", _Long, nullable=False),
    Column("intent", Word(Intent), nullable=False),
    UniqueConstraint("workflow_execution_id", "task_name", "sequence_number"),
)

task_cause = _table(
    "task_cause",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_execution_id", BigInteger, nullable=False, index=True),
    Column("events", Json(tuple[Event, ...]), nullable=False),
)

workflow_schedule = _table(
    "workflow_schedule",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_id", BigInteger, nullable=False, index=True),
    Column("expression", _Long, nullable=False),
    Column("create_time", Moment, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    # Never NULL; MySQL gives such a column no default for the rows that are there already.
    Column("options", Json(ScheduleOptions)),
    Column("waiting", Integer, nullable=False, server_default="0"),
)

workflow_event_trigger = _table(
    "workflow_event_trigger",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("workflow_id", BigInteger, nullable=False, index=True),
    Column("rule", Json(AnyCondition), nullable=False),
    Column("create_time", Moment, nullable=False),
    Column("is_paused", Boolean, nullable=False),
)

timer = _table(
    "timer",
    Column("kind", Word(TimerKind), primary_key=True),
    Column("owner", BigInteger, primary_key=True, autoincrement=False),
    Column("task_name", _Name, primary_key=True),
    Column("fire_at", BigInteger, nullable=False),
)

condition_state = _table(
    "condition_state",
    Column("scope_kind", Word(ScopeKind), primary_key=True),
    Column("scope_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", _Name, primary_key=True),
    Column("value", _Long, nullable=False),
)

evaluation = _table(
    "evaluation",
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Json(Evaluation), nullable=False),
)

consumer = _table(
    "consumer",
    Column("name", String(50), primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("counters", Json(dict[str, int]), nullable=False),
    # Of the leader who may write; whoever has an older one is refused.
    Column("epoch", BigInteger, nullable=False, server_default="0"),
)

lease = _table(
    "lease",
    Column("name", String(100), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

outbox = _table(
    "outbox",
    Column("id", String(40), primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("message", Json(Message), nullable=False),
)

decision = _table(
    "decision",
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("offset", BigInteger, nullable=False, index=True),
    Column("workflow_execution_id", BigInteger, nullable=False),
    Column("task_name", _Name, nullable=False),
    Column("what", Word(Outcome), nullable=False),
    Column("why", _Long, nullable=False),
    Column("cause", Word(Cause), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("time", Moment, nullable=False),
    Column("workflow_id", BigInteger, nullable=False),
    Column("task_execution_id", BigInteger, nullable=False),
    Column("missing", Json(tuple[Lack, ...])),
    Column("answer_offset", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("first_time", Moment),
    # By what makes decisions alike, see `aiflow_core.model.decision.FOLDED`.
    Index("ix_decision_alike", "workflow_execution_id", "task_name", "cause", "number", "what"),
)

reply = _table(
    "reply",
    Column("request_id", Exact(LONGEST["id"]), primary_key=True),
    Column("offset", BigInteger, nullable=False, index=True),
    Column("body", Json(Reply), nullable=False),
)

dead_letter = _table(
    "dead_letter",
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("consumer", Exact(300), primary_key=True),
    Column("error", _Long, nullable=False),
    Column("create_time", Moment, nullable=False),
    Column("tries", Integer, nullable=False, server_default="1"),
    Column("evaluation", Json(Evaluation)),
)
