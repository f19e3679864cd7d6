"""The parts of a scheduler that runs, and how messages go between them.

There are threads only in `start_thread`; simulations call the parts themselves.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from aiflow_core.deployment import Deployment
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor
from aiflow_scheduler_event.claims import NOBODY, Claims
from aiflow_scheduler_event.conditions import ConditionHosts
from aiflow_scheduler_event.figures import Figures
from aiflow_scheduler_event.leases import Lease, Leases
from aiflow_scheduler_event.loop import Loop
from aiflow_scheduler_event.membership import Heartbeats, Membership
from aiflow_scheduler_event.reporter import Reporter, report_event
from aiflow_scheduler_event.state import Evaluate, OutboxEntry, Publish, State, Stop, Submit
from aiflow_scheduler_event.store import Store, alive_tasks
from aiflow_scheduler_event.tasks import attempt_request
from aiflow_scheduler_event.timers import Timers

# So many seconds a part may take to end.
_JOIN = 3.0


class Running:
    """One server's scheduler: leader, stand-by and worker. For the names see `Membership`.

    Attributes:
        hosts: to be set before anything runs.
    """

    hosts: ConditionHosts

    def __init__(
        self,
        store: Store,
        deployment: Deployment,
        events: EventStore,
        executor: Executor,
        *,
        server: str,
        worker: str,
        ha: bool,
        ha_ttl: float,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        """`heartbeats` are as long as the leader's lease when nothing else is said."""
        clock = deployment.clock
        self.events = events
        self._store = store
        self._executor = executor
        self._me = worker
        self._heartbeats = heartbeats or Heartbeats(ha_ttl)
        self._claiming = ha
        self._claimed: set[AttemptKey] = set()
        self._is_heir = False
        self._requests: dict[AttemptKey, AttemptRequest] = {}
        leases = Leases(store.engine, store.uri)
        self._claims = Claims(store.engine, store.uri, leases)
        self.membership = Membership(
            leases,
            clock,
            server,
            worker,
            ttl=ha_ttl,
            heartbeats=self._heartbeats,
            ha=ha,
            renew=executor.renew,
            given_up=self._let_go,
            look_after_own=self._stop_own,
            lost=self._give_up,
        )
        self.reporter = Reporter(events, clock, self._appended)
        self.timers = Timers(clock, self.reporter.append)
        self.loop = Loop(
            *(store, events, self.timers, self.membership, deployment),
            deliver=self._deliver,
            resume=self._resume,
        )
        self.figures = Figures(
            *(deployment.hooks, clock, store, events),
            *(self.membership, self.loop, self.reporter),
        )

    def start_thread(self, stack: ExitStack, name: str, part: Any) -> None:
        """Run `part` in a thread of its own until the stack unwinds."""
        thread = threading.Thread(target=part.run, name=name, daemon=True)
        thread.start()
        # A part that waits for a log or a database that is away must not hold up the end.
        stack.callback(thread.join, _JOIN)
        stack.callback(part.close)

    # --- the executor's side -------------------------------------------------------------------

    def claim(self, key: AttemptKey) -> bool:
        """Whether the executor may start the attempt, which others may have started."""
        granted = self._claims.claim(key, self.membership.worker)
        if granted:
            self._claimed.add(key)
        return granted

    def report(self, report: AttemptReport) -> None:
        """What an executor says of an attempt goes to the log."""
        key = report.key
        request = self._requests.get(key)
        if request is None:
            return  # a repetition: its final report is on its way to the log
        if self._claiming and key not in self._claimed:
            return  # it only waited here, and may run elsewhere
        if report.status in TASK_FINISHED:
            del self._requests[key]
            self._claimed.discard(key)
        self.reporter.append(
            report_event(request.namespace, request.workflow_name, report),
            urgent=report.status in TASK_FINISHED,
        )

    def _appended(self, events: list[Event]) -> None:
        self.loop.inbox.offer(events)

    # --- the leader's side ---------------------------------------------------------------------

    def _deliver(self, entry: OutboxEntry, arrived: Callable[[], None]) -> None:
        match entry.message:
            case Submit(request):
                self._requests[request.key] = request
                self._executor.submit(request)
            case Stop(key):
                self._stop(key)
            case Evaluate(evaluation):
                self.hosts.evaluate(evaluation, self.loop.state)
            case Publish():
                self.reporter.append(entry.event, arrived)

    def _stop(self, key: AttemptKey) -> None:
        if self._may_stop(key):
            self._executor.stop(key)

    def _may_stop(self, key: AttemptKey) -> bool:
        """Whether the attempt is this server's to stop. What another one has claimed that one stops
        by itself, see `_stop_own`."""
        if not self._claiming:
            return True
        granted = self._claims.claim_stop(key, self.membership.worker)
        if granted:
            self._claimed.add(key)
        return granted

    def _resume(self, state: State) -> None:
        """Take up again what was under way: everything here may be a repetition."""
        if self._claiming:
            # What others have claimed meanwhile they report.
            for key in self._requests.keys() - self._claimed:
                self._requests.pop(key, None)
            # The leader of before may have died before it said so.
            self._report_lost()
        self._resume_attempts(state, {NOBODY, self._me})
        begun = set()
        for evaluation in sorted(state.evaluations.values(), key=lambda e: e.id):
            if evaluation.scope not in begun:
                begun.add(evaluation.scope)
                self.hosts.evaluate(evaluation, state)

    def _give_up(self, lease: Lease) -> None:
        """A server has not been heard of for so long that what it ran has been ended, or, where
        others can see that as well, is to be looked after."""
        if self._executor.is_shared:
            # Said first: the answer may be lost, and the other be back before the next time.
            self._is_heir = True
            self._claims.inherit(lease, self._me)
            self._take_up_inheritance()
            return
        self._claims.give_up(lease)
        self._report_lost()

    def _report_lost(self) -> None:
        for key, namespace, workflow_name in self._claims.lost():
            silence = f"{self._heartbeats.timeout:g} s"
            reason = f"lost with its server, which was not heard of for {silence}"
            report = AttemptReport(key=key, status=TaskStatus.FAILED, reason=reason)
            self.reporter.append(report_event(namespace, workflow_name, report))

    def _take_up_inheritance(self) -> None:
        self.resume_own()
        self._is_heir = False

    # --- the worker's side ---------------------------------------------------------------------

    def resume_own(self) -> None:
        """Take up again what this server has claimed."""
        if self._claiming:
            self._resume_attempts(self._store.read()[0], {self._me})

    def _let_go(self) -> None:
        """The others have given this server up: what it had claimed is not its own any more."""
        if self._executor.is_shared:
            self._claimed.clear()  # the leader has inherited it
        else:
            self._executor.stop_all()

    def _stop_own(self) -> None:
        """Stop what this server has claimed and the leader wants to be stopped."""
        if self._is_heir:
            self._take_up_inheritance()
        executions = {key.workflow_execution_id for key in self._claimed.copy()}
        if executions:
            for key in self._claims.stopping(self._me, executions):
                self._executor.stop(key)

    def _resume_attempts(self, state: State, workers: set[str]) -> None:
        owners = self._claims.workers() if self._claiming else {}
        for run, live in alive_tasks(state):
            owner = owners.get(live.id, NOBODY)
            if live.status is TaskStatus.RETRYING or owner not in workers:
                continue
            request = attempt_request(run, live)
            self._requests[request.key] = request
            if owner == self._me:
                self._claimed.add(request.key)
            match live.status:
                case TaskStatus.QUEUED:
                    self._executor.submit(request)
                case TaskStatus.RUNNING:
                    self._claimed.add(request.key)
                    self._executor.adopt(request)
                case TaskStatus.STOPPING if owner == self._me:
                    self._executor.stop(request.key)
                case TaskStatus.STOPPING:
                    self._stop(request.key)
