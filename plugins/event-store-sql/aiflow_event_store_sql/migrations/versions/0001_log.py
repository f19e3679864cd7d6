"""The log and its head."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0001"
down_revision = None


def upgrade() -> None:
    collation = exact_collation(op.get_bind().dialect)

    def short(length: int) -> sa.String:
        return sa.String(length, collation=collation)

    long = sa.Text().with_variant(LONGTEXT(collation=collation), "mysql", "mariadb")
    # SQLite gives a primary key no B-tree of its own only when its type reads INTEGER.
    offset = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    head = op.create_table(
        "log_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("last_ms", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "last_ms": 0}])
    op.create_table(
        "event",
        sa.Column("seq", offset, primary_key=True, autoincrement=False),
        sa.Column("event_id", short(255), nullable=False, unique=True),
        sa.Column("type", short(32), nullable=False),
        sa.Column("ns", short(255), nullable=False),
        sa.Column("key", short(1024), nullable=False),
        # Keys are too long to be indexed themselves.
        sa.Column("key_crc", sa.BigInteger, nullable=False),
        sa.Column("value", long),
        sa.Column("context", long, nullable=False),
        sa.Column("sender", short(1024), nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("event_by_key", "event", ["key_crc", "seq"])
    op.create_index("event_by_namespace", "event", ["ns", "seq"])
    op.create_index("event_by_time", "event", ["create_ms", "seq"])


def downgrade() -> None:
    op.drop_table("event")
    op.drop_table("log_head")


def exact_collation(dialect: sa.Dialect) -> str | None:
    """The collation under which texts are equal when their characters are; None: the default is.

    MySQL and MariaDB would otherwise ignore case, accents and trailing spaces.
    """
    if dialect.name not in ("mysql", "mariadb"):
        return None
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
