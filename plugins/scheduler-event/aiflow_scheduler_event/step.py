"""What a step of the engine is made on: the state, the event, and what is to be written."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aiflow_core.clock import to_datetime
from aiflow_core.model.condition import Lack
from aiflow_core.model.context import Context, ValueState, ValueStateDescriptor
from aiflow_core.model.decision import Cause, Decision, Outcome
from aiflow_core.model.event import Event, derived_event_id
from aiflow_core.model.execution import (
    AttemptKey,
    WorkflowTrigger,
)
from aiflow_core.model.status import (
    TaskStatus,
)
from aiflow_scheduler_event.state import (
    Changes,
    ConditionState,
    Message,
    OutboxEntry,
    Scope,
    ScopeKind,
    State,
    Timer,
    TimerKey,
)

SENDER = "scheduler"
"""Sender of the events that tell what the engine itself decided; it does not listen to them."""

replace = msgspec.structs.replace

# Of what a condition waits for, so much is kept with a decision: a join of a thousand tasks would
# otherwise write half a million.
_MOST_MISSING = 8


class Why(NamedTuple):
    """What moves the engine to do something.

    `number` says which one of the cause, see `Decision`. `event_offset` is that of the event which
    led to it, where it is another one than that which is taken in.
    """

    text: str
    cause: Cause
    number: int = 0
    event_offset: int = 0


def rule_met(number: int, condition: str, *events: Event) -> Why:
    """That a rule of a task looked at an event, or at those of a match; `number` from 0."""
    offsets = ", ".join(str(event.offset) for event in events)
    text = f"rule {number + 1} ({condition}), event{'s' if len(events) > 1 else ''} {offsets}"
    return Why(text, Cause.RULE, number + 1, events[-1].offset)


def trigger_met(trigger: WorkflowTrigger, event: Event) -> Why:
    """That a trigger looked at an event, or at a match of which this is the last."""
    return Why(f"trigger {trigger.id}", Cause.TRIGGER, trigger.id, event.offset)


class Report(msgspec.Struct, frozen=True):
    """Context of a TASK_STATUS event: which attempt, and why."""

    workflow_execution_id: int
    task_name: str
    sequence_number: int
    try_number: int
    reason: str = ""

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(
            self.workflow_execution_id, self.task_name, self.sequence_number, self.try_number
        )


class Answer(msgspec.Struct, frozen=True):
    """Value of an ANSWER event: how a condition host found a condition.

    `states` are the states that the condition left, by name; None: it was cleared. `error` says why
    there is no outcome, after so many `tries`; the condition then counts as not met.
    """

    evaluation_id: int
    met: bool = False
    states: dict[str, str | None] = {}
    error: str = ""
    tries: int = 1


class Step:
    """The ground on which the engine stands, see `engine`."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._changes = Changes()
        self._event = Event("")
        self._sent = 0

    def _begin(self, event: Event, changes: Changes) -> None:
        self._event, self._changes, self._sent = event, changes, 0
        self._reach(event.create_time)

    @property
    def _now(self) -> int:
        return self.state.counters.time_ms

    def _reach(self, time_ms: int) -> None:
        """It is at least that late."""
        self.state.counters.time_ms = max(self._now, time_ms)

    def _send(self, message: Message) -> None:
        self._sent += 1
        entry_id = derived_event_id("outbox", self._event.offset, self._sent)
        self._changes.outbox.append(OutboxEntry(entry_id, self._event.offset, message))

    def _decide(
        self,
        execution_id: int,
        task_name: str,
        what: Outcome,
        why: Why,
        *,
        workflow_id: int = 0,
        task_execution_id: int = 0,
        missing: tuple[Lack, ...] = (),
    ) -> None:
        offset = why.event_offset or self._event.offset
        if len(missing) > _MOST_MISSING:
            others = len(missing) - _MOST_MISSING
            missing = (*missing[:_MOST_MISSING], Lack(f"{others} more"))
        decision = Decision(
            offset=offset,
            workflow_execution_id=execution_id,
            task_name=task_name,
            what=what,
            why=why.text,
            cause=why.cause,
            number=why.number,
            time=to_datetime(self._now),
            workflow_id=workflow_id,
            task_execution_id=task_execution_id,
            missing=missing,
            answer_offset=0 if offset == self._event.offset else self._event.offset,
        )
        self._changes.decisions.append(decision)
        self._tell(decision)

    def _tell(self, value: Any) -> None:
        self._changes.told.append((self._event.offset, value))

    def _set_timer(self, key: TimerKey, fire_at: int) -> None:
        # After now, and so after every timer that has fired: two never share an id.
        timer = Timer(key, max(fire_at, self._now + 1))
        self.state.timers[key] = timer
        self._changes.put(timer)

    def _wake_at(self, key: TimerKey, moment: int | None) -> None:
        """Let a timer fire at that moment and no other, or never."""
        if moment is None:
            self._drop_timer(key)
        elif key not in self.state.timers or self.state.timers[key].fire_at != moment:
            self._set_timer(key, moment)

    def _drop_timer(self, key: TimerKey) -> None:
        if self.state.timers.pop(key, None) is not None:
            self._changes.delete(Timer, key)

    def _placed(self, event: Event) -> Event:
        """The event with an offset. A change that we make known ourselves has none yet: what led to
        it is in the log already."""
        return event if event.offset else replace(event, offset=self._event.offset)

    def _keep_state(self, scope: Scope, name: str, value: str | None) -> None:
        of_execution = scope.kind not in (ScopeKind.WORKFLOW, ScopeKind.TRIGGER)
        if of_execution and scope.id not in self.state.runs:
            return
        kept = self.state.states.setdefault(scope, {})
        if value is not None:
            kept[name] = ConditionState(scope, name, value)
            self._changes.put(kept[name])
        elif kept.pop(name, None) is not None:
            self._changes.delete(ConditionState, (scope, name))


class Surroundings(Context):
    """The surroundings of a built-in condition. Its states are JSON, kept as they are left."""

    def __init__(
        self, step: Step, scope: Scope, status: Callable[[str], TaskStatus | None]
    ) -> None:
        self._step = step
        self._scope = scope
        self._status = status

    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState:
        return _KeptState(self._step, self._scope, state_descriptor.name)

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        return self._status(task_name)


class _KeptState(ValueState):
    """A state whose changes are part of the step."""

    def __init__(self, step: Step, scope: Scope, name: str) -> None:
        self._step, self._scope, self._name = step, scope, name

    def value(self) -> Any:
        kept = self._step.state.states.get(self._scope, {}).get(self._name)
        return None if kept is None else json.loads(kept.value)

    def update(self, state: Any) -> None:
        self._step._keep_state(self._scope, self._name, json.dumps(state))

    def clear(self) -> None:
        self._step._keep_state(self._scope, self._name, None)
