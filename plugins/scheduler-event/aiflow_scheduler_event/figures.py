"""Tells observers how much a scheduler has to do, every so many seconds."""

import logging
import threading
from typing import Any

from sqlalchemy import func, select

from aiflow_core.clock import Clock
from aiflow_core.database import reachable
from aiflow_core.errors import UnavailableError
from aiflow_core.model.figures import SchedulerFigures
from aiflow_core.model.status import TASK_ALIVE, WORKFLOW_FINISHED, WorkflowStatus
from aiflow_core.specs.event_store import EventStore
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.loop import Loop
from aiflow_scheduler_event.membership import Membership
from aiflow_scheduler_event.reporter import Reporter
from aiflow_scheduler_event.store import Store

log = logging.getLogger(__name__)


class Figures:
    """Takes and tells them. `run` is the body of a thread, so that nobody waits for the database
    that is asked."""

    def __init__(
        self,
        hooks: Any,
        clock: Clock,
        store: Store,
        events: EventStore,
        membership: Membership,
        loop: Loop,
        reporter: Reporter,
    ) -> None:
        self._hooks = hooks
        self._clock = clock
        self._store = store
        self._events = events
        self._membership = membership
        self._loop = loop
        self._reporter = reporter
        self._closed = threading.Event()
        self._is_away = False

    def run(self) -> None:
        """Tell until closed. None are told while the log or the database is away."""
        while True:
            try:
                self.tell()
                self._is_away = False
            except UnavailableError as error:
                if not self._is_away:
                    log.warning("There are no figures for a while: %s", error)
                self._is_away = True
            if self._clock.wait(self._closed, self._hooks.settings.figures_interval):
                return

    def close(self) -> None:
        """End `run`."""
        self._closed.set()

    def tell(self) -> None:
        """Tell how much there is now. `UnavailableError`: not everything could be asked."""
        self._hooks.figures_taken(figures=self._take(), observers=self._hooks.figures())

    def _take(self) -> SchedulerFigures:
        if self._membership.epoch is None:
            return SchedulerFigures(leads=False)
        # First what has been taken in, so that the log is never said to be behind it.
        taken_in = self._loop.taken_in
        return SchedulerFigures(
            leads=True,
            taken_in=taken_in,
            head=max(taken_in, self._events.head()),
            inbox=len(self._loop.inbox),
            outbox=len(self._loop.outbox),
            reports=self._reporter.waiting,
            **self._count(),
        )

    def _count(self) -> dict[str, Any]:
        """What is only in the database."""
        engine = self._store.engine
        with reachable(self._store.uri), engine.connect() as connection:
            connection = connection.execution_options(read_only=True)
            return {
                "tasks": dict(connection.execute(_TASKS).tuples().all()),
                "executions": dict(connection.execute(_EXECUTIONS).tuples().all()),
                "dead_letters": connection.scalar(_LETTERS),
            }


_EXECUTION, _TASK = tables.workflow_execution, tables.task_execution
_LIVES = _EXECUTION.c.status.in_(frozenset(WorkflowStatus) - WORKFLOW_FINISHED)
_EXECUTIONS = select(_EXECUTION.c.status, func.count()).where(_LIVES).group_by(_EXECUTION.c.status)
# By their executions, because there is no index of the statuses of all the tasks there ever were.
_TASKS = (
    select(_TASK.c.status, func.count())
    .join(_EXECUTION, _EXECUTION.c.id == _TASK.c.workflow_execution_id)
    .where(_LIVES, _TASK.c.status.in_(TASK_ALIVE))
    .group_by(_TASK.c.status)
)
_LETTERS = select(func.count()).select_from(tables.dead_letter)
