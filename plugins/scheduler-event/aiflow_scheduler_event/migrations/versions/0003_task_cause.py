"""The events that started a task execution are kept with it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "task_cause",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("workflow_execution_id", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Text().with_variant(LONGTEXT(), "mysql"), nullable=False),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )
    op.create_index("ix_task_cause_workflow_execution_id", "task_cause", ["workflow_execution_id"])


def downgrade() -> None:
    op.drop_table("task_cause")
