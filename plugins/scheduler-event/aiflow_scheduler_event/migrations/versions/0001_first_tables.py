"""The first tables, the default namespace, and the scheduler's place in the log."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0001"
down_revision = None

TABLES = (
    *("namespace", "workflow", "workflow_snapshot", "workflow_execution", "task_execution"),
    *("workflow_schedule", "workflow_event_trigger", "timer", "condition_state", "evaluation"),
    *("consumer", "outbox", "decision", "reply", "dead_letter"),
)

_long = sa.Text().with_variant(LONGTEXT(), "mysql")
_word = sa.String(16)


def upgrade() -> None:
    collation = exact_collation(op.get_bind().dialect)

    def exact(length: int) -> sa.String:
        return sa.String(length, collation=collation)

    name = exact(200)
    namespace = _create_table(
        "namespace",
        sa.Column("name", name, primary_key=True),
        sa.Column("properties", _long, nullable=False),
    )
    op.bulk_insert(namespace, [{"name": "default", "properties": "{}"}])
    _create_table(
        "workflow",
        _id(),
        sa.Column("workflow_name", name, nullable=False),
        sa.Column("namespace", name, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("event_offset", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("namespace", "workflow_name"),
    )
    _create_table(
        "workflow_snapshot",
        _id(),
        sa.Column("workflow_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("definition", _long, nullable=False),
        sa.Column("bundle", _long),
    )
    _create_table(
        "workflow_execution",
        _id(),
        sa.Column("workflow_id", sa.BigInteger, nullable=False),
        sa.Column("begin_date", sa.BigInteger, nullable=False),
        sa.Column("end_date", sa.BigInteger),
        sa.Column("status", _word, nullable=False),
        sa.Column("run_type", _word, nullable=False),
        sa.Column("snapshot_id", sa.BigInteger, nullable=False),
        sa.Column("event_offset", sa.BigInteger, nullable=False),
        sa.Column("reason", _long, nullable=False),
        sa.Column("stopping", sa.Boolean, nullable=False),
        sa.Index("ix_workflow_execution_workflow", "workflow_id", "id"),
        sa.Index("ix_workflow_execution_status", "status"),
    )
    _create_table(
        "task_execution",
        _id(),
        sa.Column("workflow_execution_id", sa.BigInteger, nullable=False),
        sa.Column("task_name", name, nullable=False),
        sa.Column("sequence_number", sa.Integer, nullable=False),
        sa.Column("try_number", sa.Integer, nullable=False),
        sa.Column("begin_date", sa.BigInteger),
        sa.Column("end_date", sa.BigInteger),
        sa.Column("status", _word, nullable=False),
        sa.Column("reason", _long, nullable=False),
        sa.Column("intent", _word, nullable=False),
        sa.UniqueConstraint("workflow_execution_id", "task_name", "sequence_number"),
    )
    _create_table(
        "workflow_schedule",
        _id(),
        sa.Column("workflow_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("expression", _long, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
    )
    _create_table(
        "workflow_event_trigger",
        _id(),
        sa.Column("workflow_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("rule", _long, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
    )
    _create_table(
        "timer",
        sa.Column("kind", _word, primary_key=True),
        sa.Column("owner", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("task_name", name, primary_key=True),
        sa.Column("fire_at", sa.BigInteger, nullable=False),
    )
    _create_table(
        "condition_state",
        sa.Column("scope_kind", _word, primary_key=True),
        sa.Column("scope_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", name, primary_key=True),
        sa.Column("value", _long, nullable=False),
    )
    _create_table("evaluation", _id(), sa.Column("body", _long, nullable=False))
    consumer = _create_table(
        "consumer",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("counters", _long, nullable=False),
    )
    op.bulk_insert(consumer, [{"name": "scheduler", "last_seq": 0, "counters": "{}"}])
    _create_table(
        "outbox",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("message", _long, nullable=False),
    )
    _create_table(
        "decision",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False, index=True),
        sa.Column("workflow_execution_id", sa.BigInteger, nullable=False),
        sa.Column("task_name", name, nullable=False),
        sa.Column("what", sa.String(50), nullable=False),
        sa.Column("why", _long, nullable=False),
        sa.Index("ix_decision_task", "workflow_execution_id", "task_name"),
    )
    _create_table(
        "reply",
        sa.Column("request_id", exact(255), primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False, index=True),
        sa.Column("body", _long, nullable=False),
    )
    _create_table(
        "dead_letter",
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("consumer", exact(300), primary_key=True),
        sa.Column("error", _long, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)


def _create_table(name: str, *columns: Any) -> sa.Table:
    return op.create_table(name, *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4")


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False)


def exact_collation(dialect: sa.Dialect) -> str | None:
    """The collation under which texts are equal when their characters are; None: the default is.

    MySQL and MariaDB would otherwise ignore case, accents and trailing spaces.
    """
    if dialect.name not in ("mysql", "mariadb"):
        return None
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
