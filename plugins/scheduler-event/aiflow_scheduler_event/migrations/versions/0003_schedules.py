"""Schedules have a time zone, bounds, a way to catch up, and a limit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    long = sa.Text().with_variant(LONGTEXT(), "mysql")
    op.add_column("workflow_schedule", sa.Column("options", long))
    op.execute("UPDATE workflow_schedule SET options = '{}'")
    op.add_column(
        "workflow_schedule", sa.Column("waiting", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("workflow_schedule", "waiting")
    op.drop_column("workflow_schedule", "options")
