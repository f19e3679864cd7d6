"""Gets users' conditions evaluated outside of this process, each within limits.

The engine asks for one evaluation of a scope at a time. Here those of all scopes share a few host
processes: whoever asks finds one that is free, and one that hangs holds up nobody else.
"""

import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiflow_core.bundle import fetch
from aiflow_core.crash import crash_point
from aiflow_core.errors import AIFlowError, ConfigError, UsageError
from aiflow_core.model.condition import CustomCondition
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.serialization import Value, encode
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.event_store import check_event
from aiflow_scheduler_event.condition_host import Finding, Question
from aiflow_scheduler_event.host_process import HostProcess, SpentError
from aiflow_scheduler_event.state import Evaluation, State
from aiflow_scheduler_event.step import Answer
from aiflow_scheduler_event.store import storable

log = logging.getLogger(__name__)

Reply = Callable[[Event], None]

_SLOW = "slow"
"""The lane of conditions that have lately hung; no sha256, so no bundle has this name."""

# So many conditions are known to be slow; those that have been for longest are given a new chance.
_SLOW_KNOWN = 1000


class Limits(Value, frozen=True):
    """What conditions may cost.

    Attributes:
        time_limit: seconds that one may take for one event.
        memory_limit: MiB of each process that evaluates them.
        tries: of one condition for one event, before the event goes to the dead letters.
        hosts: processes at once.
    """

    time_limit: Annotated[float, Meta(gt=0)] = 10.0
    memory_limit: Annotated[int, Meta(ge=64)] = 512
    tries: Annotated[int, Meta(ge=1)] = 3
    hosts: Annotated[int, Meta(ge=1)] = 4

    @classmethod
    def checked(cls, **limits: Any) -> "Limits":
        """These limits; `ConfigError` when there can be no such ones."""
        try:
            return msgspec.convert(limits, cls)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `$.")
            setting = f"condition_{place.rstrip('`')}"
            raise ConfigError(f"{setting}: {problem[:1].lower()}{problem[1:]}.") from error


@dataclass
class _Asked:
    """A question on its way: whose code it needs, and what has become of it so far."""

    question: Question
    bundle: BundleRef | None
    condition: str
    tries: int = 0
    lane: str = ""

    @property
    def home(self) -> str:
        """What must be loaded in a process that answers it: processes are kept by this name."""
        return self.bundle.sha256 if self.bundle else ""


class ConditionHosts:
    """At most `limits.hosts` processes, started when needed; each is kept for its bundle.

    A condition that raises, hangs, takes its process down or needs too much memory is tried again,
    from the same states, and in a new process unless it only raised. After the last try the answer
    says why there is no outcome.

    Questions wait in lanes, one for each bundle, and the lanes take turns; no bundle is given all
    of the hosts. Conditions that hung when they were last asked wait in a lane of their own, which
    is never given more than half of them.
    """

    def __init__(
        self, blobs: BlobManager, home: Path, python: str, limits: Limits, reply: Reply
    ) -> None:
        self._blobs = blobs
        self._home = home
        self._python = python
        self._limits = limits
        self._reply = reply
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._lanes: dict[str, deque[_Asked]] = {}
        self._running: Counter[str] = Counter()
        self._slow: dict[str, None] = {}
        self._hosts: list[_Host] = []
        self._idle: list[_Host] = []
        self._closed = False

    def evaluate(self, evaluation: Evaluation, state: State) -> None:
        """Have it evaluated; the answer comes as an event. One thread at a time."""
        if evaluation.id not in state.evaluations:
            return  # its execution was stopped by the same step
        asked = _asked(evaluation, state)
        with self._lock:
            if evaluation.id in self._open or self._closed:
                return  # it was asked before the state was loaded afresh
            self._open.add(evaluation.id)
            self._queue(asked)
            self._assign()

    def close(self) -> None:
        """End all hosts; what is being evaluated is not answered any more."""
        with self._lock:
            self._closed = True
            self._lanes.clear()
            hosts = list(self._hosts)
        for host in hosts:
            host.close()

    # --- who is next -----------------------------------------------------------------------------

    def _queue(self, asked: _Asked) -> None:
        asked.lane = _SLOW if asked.condition in self._slow else asked.home
        self._lanes.setdefault(asked.lane, deque()).append(asked)

    def _assign(self) -> None:
        """Give hosts that are free, or may yet be started, what waits."""
        while self._idle or len(self._hosts) < self._limits.hosts:
            lane = self._next_lane()
            if lane is None:
                return
            waiting = self._lanes.pop(lane)
            asked = waiting.popleft()
            if waiting:
                self._lanes[lane] = waiting  # behind the others
            self._running.update({lane, asked.home})
            self._host_for(asked).questions.put(asked)

    def _next_lane(self) -> str | None:
        """Of the lanes that may be served the one that is served least; in turns."""
        lanes = [name for name, waiting in self._lanes.items() if self._may_run(name, waiting[0])]
        return min(lanes, key=lambda name: self._running[name], default=None)

    def _may_run(self, lane: str, asked: _Asked) -> bool:
        """Whether neither the slow ones nor those of this bundle have all that they are given."""
        hosts = self._limits.hosts
        return self._running[asked.home] < max(1, hosts - 1) and (
            lane != _SLOW or self._running[_SLOW] < max(1, hosts // 2)
        )

    def _host_for(self, asked: _Asked) -> "_Host":
        """An idle host of the same bundle, else a new one, else the one that has idled longest."""
        warm = next((host for host in self._idle if host.home == asked.home), None)
        if warm is None and len(self._hosts) < self._limits.hosts:
            host = _Host(self)
            self._hosts.append(host)
            return host
        chosen = warm or self._idle[0]
        self._idle.remove(chosen)
        return chosen

    # --- one try ---------------------------------------------------------------------------------

    def serve(self, host: "_Host", asked: _Asked) -> None:
        """Let a host try to answer. What can be tried again waits again, behind the others."""
        finding, hung = self._try(host, asked)
        is_final = not finding.error or asked.tries >= self._limits.tries
        if is_final and not self._closed:
            self._answer(asked, finding)
        with self._lock:
            self._running.subtract({asked.lane, asked.home})
            self._running = +self._running  # without the bundles of which none is running
            self._slow.pop(asked.condition, None)
            if hung:
                self._slow[asked.condition] = None
                if len(self._slow) > _SLOW_KNOWN:
                    del self._slow[next(iter(self._slow))]
            if is_final:
                self._open.discard(asked.question.evaluation_id)
            elif not self._closed:
                self._queue(asked)
            self._idle.append(host)
            self._assign()

    def _try(self, host: "_Host", asked: _Asked) -> tuple[Finding, bool]:
        """What a host found, and whether it hung; whatever happens there is a finding."""
        asked.tries += 1
        try:
            question = asked.question
            if asked.bundle is not None:
                root = fetch(self._home, asked.bundle, self._blobs)
                question = msgspec.structs.replace(question, root=str(root))
            elif not question.code:
                raise UsageError("the workflow was uploaded without its code")
            return host.ask(question, asked.home, self._python, self._limits), False
        except SpentError as error:
            return Finding(error=str(error)), error.hung
        except AIFlowError as error:
            return Finding(error=str(error)), False
        except Exception as error:
            # Not the condition's doing; but its execution would wait for ever if the thread ended.
            log.exception("A condition could not be asked")
            return Finding(error=f"{type(error).__name__}: {error}"), False

    def _answer(self, asked: _Asked, finding: Finding) -> None:
        answer = Answer(
            asked.question.evaluation_id,
            finding.met,
            finding.states,
            storable(finding.error),
            asked.tries,
        )
        event = _answer_event(answer)
        try:
            check_event(event)
        except UsageError as error:
            why = f"its states cannot be kept: {error}"
            answer = Answer(answer.evaluation_id, error=why, tries=answer.tries)
            event = _answer_event(answer)
        if answer.error:
            log.warning("A condition could not be evaluated: %s", answer.error)
        crash_point("conditions.answer.before")
        self._reply(event)


def _asked(evaluation: Evaluation, state: State) -> _Asked:
    states = {n: s.value for n, s in state.states.get(evaluation.scope, {}).items()}
    if evaluation.trigger_id:
        trigger = state.triggers.get(evaluation.trigger_id)
        code = trigger.rule.code if trigger and isinstance(trigger.rule, CustomCondition) else ""
        question = Question(evaluation.id, evaluation.event, states, code=code)
        return _Asked(question, None, f"trigger {evaluation.trigger_id}")
    run = state.runs[evaluation.scope.id]
    definition, bundle = run.plan.snapshot.definition, run.plan.snapshot.bundle
    condition = run.plan.tasks[evaluation.task_name].rules[evaluation.rule].condition
    assert isinstance(condition, CustomCondition)
    question = Question(
        evaluation.id,
        evaluation.event,
        states,
        statuses={name: task.status for name, task in run.tasks.items()},
        entry=bundle.entry if bundle else "",
        namespace=definition.namespace,
        workflow_name=definition.name,
        place=condition.place,
        code=condition.code,
    )
    place = f"{evaluation.task_name}/{evaluation.rule}"
    return _Asked(question, bundle, f"snapshot {run.plan.snapshot.id}: {place}")


def _answer_event(answer: Answer) -> Event:
    return Event(
        key="answer",
        value=encode(answer).decode(),
        type=EventType.ANSWER,
        id=derived_event_id("answer", answer.evaluation_id),
    )


class _Host:
    """A thread that serves one question after the other, and the process it asks."""

    def __init__(self, hosts: ConditionHosts) -> None:
        self.home = ""
        self.questions: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._hosts = hosts
        self._process: HostProcess | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="condition-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process, and the thread with it; whatever the process is at."""
        self.questions.put(None)
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.end()
        self._thread.join()

    def _work(self) -> None:
        while (asked := self.questions.get()) is not None:
            self._hosts.serve(self, asked)
        self._drop()

    def ask(self, question: Question, home: str, python: str, limits: Limits) -> Finding:
        """What a process that has nothing but the code of `home` in it found."""
        if home != self.home or (self._process is not None and not self._process.is_idle):
            self._drop()  # it is another's, or died while idle; that is not this condition's fault
        self.home = home
        try:
            process = self._process or self._start(python, limits.memory_limit)
            finding = process.ask(question, limits.time_limit)
        except SpentError:
            self._drop()
            raise
        if finding.spent:
            self._drop()
        return finding

    def _start(self, python: str, memory_limit: int) -> HostProcess:
        try:
            process = HostProcess(python, memory_limit)
        except OSError as error:
            raise SpentError(f"no condition host: {error}") from error
        with self._lock:
            self._process = process
            if self._closed:
                raise SpentError("the scheduler is being stopped")
        process.await_start()
        return process

    def _drop(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()
