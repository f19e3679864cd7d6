"""Schedules have a time zone, bounds, a way to catch up, and a limit; the code of uploads that were
deleted is deleted, too."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    long = sa.Text().with_variant(LONGTEXT(), "mysql")
    op.add_column("workflow_schedule", sa.Column("options", long))
    op.execute("UPDATE workflow_schedule SET options = '{}'")
    op.add_column(
        "workflow_schedule", sa.Column("waiting", sa.Integer, nullable=False, server_default="0")
    )
    op.create_table(
        "orphaned_bundle",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("bundle", long, nullable=False),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )


def downgrade() -> None:
    op.drop_table("orphaned_bundle")
    op.drop_column("workflow_schedule", "waiting")
    op.drop_column("workflow_schedule", "options")
