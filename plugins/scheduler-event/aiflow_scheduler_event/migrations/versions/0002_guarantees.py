"""Dead letters can be taken up again, and tell how often they were tried."""

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


def downgrade() -> None:
    op.drop_column("dead_letter", "evaluation")
    op.drop_column("dead_letter", "tries")
