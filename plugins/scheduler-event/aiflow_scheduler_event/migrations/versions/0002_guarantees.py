"""Dead letters can be taken up again; several servers may share the database."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0002"
down_revision = "0001"

_long = sa.Text().with_variant(LONGTEXT(), "mysql")


def upgrade() -> None:
    # What failed before this revision was tried once; whom to ask again was not kept.
    op.add_column("dead_letter", sa.Column("tries", sa.Integer, nullable=False, server_default="1"))
    op.add_column("dead_letter", sa.Column("evaluation", _long))
    op.add_column("consumer", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column(
        "task_execution", sa.Column("worker", sa.String(64), nullable=False, server_default="")
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )


def downgrade() -> None:
    op.drop_table("lease")
    op.drop_column("task_execution", "worker")
    op.drop_column("consumer", "epoch")
    op.drop_column("dead_letter", "evaluation")
    op.drop_column("dead_letter", "tries")
