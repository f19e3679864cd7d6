"""Decisions tell their cause, and those that nothing followed from are folded into one."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0005"
down_revision = "0004"

_long = sa.Text().with_variant(LONGTEXT(), "mysql")

_ALIKE = ("workflow_execution_id", "task_name", "cause", "number", "what")


def upgrade() -> None:
    # Those of before have no cause and no time, and no command ever showed them.
    op.execute(sa.table("decision").delete())
    for column in _columns():
        op.add_column("decision", column)
    op.drop_index("ix_decision_task", "decision")
    op.create_index("ix_decision_alike", "decision", _ALIKE)


def downgrade() -> None:
    op.drop_index("ix_decision_alike", "decision")
    op.create_index("ix_decision_task", "decision", ["workflow_execution_id", "task_name"])
    for column in _columns():
        op.drop_column("decision", column.name)


def _columns() -> list[sa.Column[Any]]:
    def number(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")

    return [
        sa.Column("cause", sa.String(16), nullable=False, server_default=""),
        number("number"),
        number("time"),
        number("workflow_id"),
        number("task_execution_id"),
        sa.Column("missing", _long),
        number("answer_offset"),
        number("count"),
        number("first_offset"),
        sa.Column("first_time", sa.BigInteger),
    ]
