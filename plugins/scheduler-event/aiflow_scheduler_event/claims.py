"""Which of several servers runs which attempt.

A server puts its name on the row of a task before it starts an attempt. Of all who try, one
succeeds; and only as long as its own lease holds, so that nobody starts anything after having been
given up.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, Update, bindparam, exists, select, update

from aiflow_core.crash import crash_point
from aiflow_core.database import database_ms, reachable
from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.status import TASK_ALIVE, TaskStatus
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.leases import Lease, Leases

_TASK = tables.task_execution
_KEY = (
    _TASK.c.workflow_execution_id,
    _TASK.c.task_name,
    _TASK.c.sequence_number,
    _TASK.c.try_number,
)
NOBODY = ""
LOST = "lost"
"""Claims what went down with its server: not even that server gets it again when it comes back."""


class Claimed(NamedTuple):
    """An attempt that a server has claimed and that has not ended."""

    key: AttemptKey
    namespace: str
    workflow_name: str


class Claims:
    """The claims in the metadata database. All methods raise `UnavailableError` when it does not
    answer."""

    def __init__(self, engine: Engine, uri: str, leases: Leases) -> None:
        self._engine = engine
        self._uri = uri
        self._leases = leases
        lease = tables.lease
        self._holds = exists().where(
            lease.c.name == bindparam("lease"),
            lease.c.epoch == bindparam("known"),
            lease.c.expires > database_ms(),
        )
        free = _TASK.c.worker.in_([NOBODY, bindparam("me")])
        mine = update(_TASK).where(*_named(), free).values(worker=bindparam("me"))
        self._claim = mine.where(_TASK.c.status == TaskStatus.QUEUED, self._holds)
        self._claim_stop = mine.where(_TASK.c.status == TaskStatus.STOPPING, self._holds)

    def claim(self, key: AttemptKey, lease: Lease) -> bool:
        """Whether the holder of the lease may start the attempt: it still waits, and nobody else
        has claimed it. `UnavailableError` when the lease does not hold (any more)."""
        crash_point("claim.before")
        granted = self._take(self._claim, key, lease)
        crash_point("claim.after")
        return granted

    def claim_stop(self, key: AttemptKey, lease: Lease) -> bool:
        """Whether the holder of the lease is the one to stop the attempt: it has claimed it, or
        nobody has, and now nobody else can. False: another one is. `UnavailableError` when the
        lease does not hold: then whoever has inherited from this server would not hear of it."""
        crash_point("claim.stop.before")
        granted = self._take(self._claim_stop, key, lease)
        crash_point("claim.stop.after")
        return granted

    def _take(self, claim: Update, key: AttemptKey, lease: Lease) -> bool:
        with reachable(self._uri), self._engine.begin() as connection:
            facts = {**_facts(key), "me": lease.holder, "lease": lease.name, "known": lease.epoch}
            granted = connection.execute(claim, facts).rowcount == 1
            held = granted or connection.scalar(
                select(self._holds), {"lease": lease.name, "known": lease.epoch}
            )
        if not held:
            raise UnavailableError("This server has lost its lease and claims nothing without it.")
        return granted

    def stopping(self, worker: str, executions: Iterable[int]) -> list[AttemptKey]:
        """What `worker` has claimed in these workflow executions and is to stop."""
        query = select(*_KEY).where(
            _TASK.c.workflow_execution_id.in_(executions),
            _TASK.c.worker == worker,
            _TASK.c.status == TaskStatus.STOPPING,
        )
        with reachable(self._uri), self._engine.connect() as connection:
            return [AttemptKey(*row) for row in connection.execute(query)]

    def workers(self) -> dict[int, str]:
        """The server of every task execution that is alive and claimed, by its id."""
        query = select(_TASK.c.id, _TASK.c.worker).where(
            _TASK.c.worker != NOBODY, _TASK.c.status.in_(TASK_ALIVE)
        )
        with reachable(self._uri), self._engine.connect() as connection:
            return {row.id: row.worker for row in connection.execute(query)}

    def give_up(self, lease: Lease) -> None:
        """Fence the lease of a server that has not been heard of, and mark as lost what it had
        claimed. Nothing happens when it has been heard of meanwhile."""
        crash_point("claim.give_up.before")
        self._hand_over(lease, LOST)
        crash_point("claim.give_up.after")

    def lost(self) -> list[Claimed]:
        """The attempts that are marked as lost, and whose end nobody has taken in yet."""
        execution, workflow = tables.workflow_execution, tables.workflow
        query = (
            select(*_KEY, workflow.c.namespace, workflow.c.workflow_name)
            .join(execution, execution.c.id == _TASK.c.workflow_execution_id)
            .join(workflow, workflow.c.id == execution.c.workflow_id)
            .where(*_claimed_by(LOST))
            .order_by(_TASK.c.id)
        )
        with reachable(self._uri), self._engine.connect() as connection:
            return [Claimed(AttemptKey(*row[:4]), *row[4:]) for row in connection.execute(query)]

    def inherit(self, lease: Lease, heir: str) -> None:
        """As `give_up`, but `heir` has now claimed what the other had, where he can see it as
        well."""
        crash_point("claim.inherit.before")
        self._hand_over(lease, heir)
        crash_point("claim.inherit.after")

    def _hand_over(self, lease: Lease, to: str) -> None:
        # One transaction: whoever takes the lease anew, and then claims, comes after it.
        with reachable(self._uri), self._engine.begin() as connection:
            if self._leases.fence(connection, lease):
                claimed = update(_TASK).where(*_claimed_by(lease.holder))
                connection.execute(claimed.values(worker=to))


def _claimed_by(worker: str) -> list[ColumnElement[bool]]:
    return [_TASK.c.worker == worker, _TASK.c.status.in_(TASK_ALIVE - {TaskStatus.RETRYING})]


def _named() -> list[ColumnElement[bool]]:
    return [
        _TASK.c.workflow_execution_id == bindparam("execution"),
        _TASK.c.task_name == bindparam("task"),
        _TASK.c.sequence_number == bindparam("number"),
        _TASK.c.try_number == bindparam("try"),
    ]


def _facts(key: AttemptKey) -> dict[str, Any]:
    return {
        "execution": key.workflow_execution_id,
        "task": key.task_name,
        "number": key.sequence_number,
        "try": key.try_number,
    }
