"""The first tables, the default namespace, and the scheduler's place in the log."""

from alembic import op

from aiflow_scheduler_event import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    # The newest shape is this one for as long as this is the only revision; the next one freezes
    # it here.
    tables.metadata.create_all(op.get_bind(), checkfirst=False)
    op.bulk_insert(tables.namespace, [{"name": "default", "properties": {}}])
    op.bulk_insert(tables.consumer, [{"name": "scheduler", "last_seq": 0, "counters": {}}])


def downgrade() -> None:
    tables.metadata.drop_all(op.get_bind(), checkfirst=False)
