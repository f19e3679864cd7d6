"""Rules of the event algebra: what they remember between two events, and matches that wait until
their task can be started. What a pattern makes of an event is the automaton's."""

from collections import defaultdict, deque

from aiflow_core.clock import to_datetime
from aiflow_core.model.algebra import MOST_KEPT, Modifier, Pattern
from aiflow_core.model.decision import Outcome
from aiflow_core.model.event import Event
from aiflow_core.model.execution import WorkflowTrigger
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TASK_ALIVE
from aiflow_core.model.workflow import TaskDefinition
from aiflow_scheduler_event.automaton import Look, Match, look
from aiflow_scheduler_event.lacking import lacks
from aiflow_scheduler_event.state import (
    ConditionState,
    DeadLetter,
    Evaluation,
    Run,
    Scope,
    ScopeKind,
    State,
    TimerKey,
    TimerKind,
)
from aiflow_scheduler_event.step import Why, rule_met, trigger_met
from aiflow_scheduler_event.tasks import Tasks

MOST_WAITING = 10_000
"""Matches that may wait for one task of an execution; one more goes to the dead letters."""

MOST_WAITING_CHARACTERS = 64 * 1024 * 1024
"""The same, of the characters of all of them."""

OF_TRIGGER = "pattern"
"""Name of what the pattern of a trigger remembers, in the scope of the trigger."""


class Patterns(Tasks):
    """What rules of the event algebra lead to, see `engine`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        # Both follow from `state.states`, in a form in which they are found at once.
        self._kept: dict[tuple[Scope, str], dict[int, Event]] = defaultdict(dict)
        self._waiting: dict[tuple[int, int], _Queue] = defaultdict(_Queue)
        for scope, states in state.states.items():
            for name, found in states.items():
                owner, slash, number = name.partition("/")
                if slash and scope.kind in (ScopeKind.RULES, ScopeKind.TRIGGER):
                    self._kept[scope, owner][int(number)] = decode(found.value, Event)
                elif slash and scope.kind is ScopeKind.WAITING:
                    self._waiting[scope.id, int(owner)].add(int(number), found.value)
        for queue in self._waiting.values():
            queue.numbers = deque(sorted(queue.numbers))

    # --- rules of tasks ------------------------------------------------------------------------

    def _try_pattern(self, run: Run, task: TaskDefinition, number: int, event: Event) -> bool:
        """Let a rule hear an event; whether that led to a match."""
        rule_name = run.plan.rule_name(task.name, number)
        scope = Scope(ScopeKind.RULES, run.execution.id)
        timer = TimerKey(TimerKind.WINDOW, run.execution.id, rule_name)
        condition = task.rules[number].condition
        assert isinstance(condition, Pattern)
        found = self._look(scope, rule_name, timer, condition, self._placed(event))
        self._touched[run.execution.id] = run  # it may have waited for nothing but this
        self._act_on(run, task, number, found.due)
        self._act_on(run, task, number, found.met)
        why = rule_met(number, str(condition), self._placed(event))
        if not found.met:
            self._decide(
                *(run.execution.id, task.name, Outcome.NOT_MET, why),
                missing=lacks(condition, found.root, self._now, event),
            )
        for forgotten in found.forgotten:
            made_room = _made_room(forgotten, why)
            self._decide(run.execution.id, task.name, Outcome.FORGOTTEN, made_room)
        return bool(found.met)

    def _wake_rule(self, run: Run, rule_name: str) -> None:
        """A window of a rule has ended."""
        task, number = run.plan.patterns[rule_name]
        scope = Scope(ScopeKind.RULES, run.execution.id)
        timer = TimerKey(TimerKind.WINDOW, run.execution.id, rule_name)
        condition = task.rules[number].condition
        assert isinstance(condition, Pattern)
        found = self._look(scope, rule_name, timer, condition)
        self._touched[run.execution.id] = run
        self._act_on(run, task, number, found.due)

    def _has_open_window(self, run: Run) -> bool:
        """Whether some rule of the execution waits for a moment that will come by itself."""
        return any(
            TimerKey(TimerKind.WINDOW, run.execution.id, rule_name) in self.state.timers
            for rule_name in run.plan.patterns
        )

    def _act_on(self, run: Run, task: TaskDefinition, number: int, matches: list[Match]) -> None:
        rule = task.rules[number]
        for match in matches:
            why = rule_met(number, str(rule.condition), *match)
            if isinstance(rule.condition, Modifier) and self._must_wait(run, task, rule.action):
                self._wait(run, task, number, match, why)
            else:
                self._act(run, task, rule.action, why, match)

    # --- matches that wait ---------------------------------------------------------------------

    def _must_wait(self, run: Run, task: TaskDefinition, action: TaskAction) -> bool:
        live = run.tasks.get(task.name)
        alive = live is not None and live.status in TASK_ALIVE
        # Those before it are still to come.
        return action is TaskAction.START and (alive or _queue_key(run, task.name) in self._waiting)

    def _wait(self, run: Run, task: TaskDefinition, number: int, match: Match, why: Why) -> None:
        key = _queue_key(run, task.name)
        queue = self._waiting.get(key, _Queue())
        text = encode((match, why)).decode()
        room = MOST_WAITING_CHARACTERS - queue.characters
        if len(queue.numbers) >= MOST_WAITING or len(text) > room:
            self._refuse(run, task, number, match, why)
            return
        place = queue.numbers[-1] + 1 if queue.numbers else 0
        queue.add(place, text)
        self._waiting[key] = queue
        scope = Scope(ScopeKind.WAITING, run.execution.id)
        self._keep_state(scope, _waiting_name(run, task.name, place), text)
        self._decide_on(run, task.name, Outcome.START_WAITS, why)

    def _refuse(self, run: Run, task: TaskDefinition, number: int, match: Match, why: Why) -> None:
        self._decide_on(run, task.name, Outcome.START_REFUSED, why)
        self.state.counters.evaluation += 1
        evaluation = Evaluation(
            self.state.counters.evaluation, run.scope, match[-1], task.name, number
        )
        error = "as many matches wait for the task already as can"
        letter = DeadLetter(
            match[-1].offset, evaluation.consumer, error, to_datetime(self._now), 1, evaluation
        )
        self._changes.dead_letters.append(letter)

    def _start_waiting(self, run: Run, task_name: str) -> None:
        """Start a task that has ended for the first of the matches that wait for it."""
        key = _queue_key(run, task_name)
        live = run.tasks.get(task_name)
        alive = live is not None and live.status in TASK_ALIVE
        if key not in self._waiting or alive or run.execution.stopping:
            return
        queue = self._waiting[key]
        scope = Scope(ScopeKind.WAITING, run.execution.id)
        name = _waiting_name(run, task_name, queue.numbers.popleft())
        text = self.state.states[scope][name].value
        queue.characters -= len(text)
        if not queue.numbers:
            del self._waiting[key]
        self._keep_state(scope, name, None)
        match, why = decode(text, tuple[Match, Why])
        self._start_task(run, run.plan.tasks[task_name], Outcome.START, why, match)

    # --- triggers ------------------------------------------------------------------------------

    def _hear_trigger(self, trigger: WorkflowTrigger, pattern: Pattern, event: Event) -> Look:
        found = self._look_at_trigger(trigger, pattern, self._placed(event))
        why = trigger_met(trigger, event)
        if not found.met:
            self._decide(
                *(0, "", Outcome.NOT_MET, why),
                workflow_id=trigger.workflow_id,
                missing=lacks(pattern, found.root, self._now, event),
            )
        for forgotten in found.forgotten:
            made_room = _made_room(forgotten, why)
            self._decide(0, "", Outcome.FORGOTTEN, made_room, workflow_id=trigger.workflow_id)
        return found

    def _look_at_trigger(
        self, trigger: WorkflowTrigger, pattern: Pattern, event: Event | None = None
    ) -> Look:
        """Let a trigger hear an event, or None: a window of it has ended."""
        scope = Scope(ScopeKind.TRIGGER, trigger.id)
        timer = TimerKey(TimerKind.TRIGGER, trigger.id)
        return self._look(scope, OF_TRIGGER, timer, pattern, event)

    def _forget_trigger(self, trigger_id: int) -> None:
        self._drop_timer(TimerKey(TimerKind.TRIGGER, trigger_id))
        self._forget_states(Scope(ScopeKind.TRIGGER, trigger_id))
        self._kept.pop((Scope(ScopeKind.TRIGGER, trigger_id), OF_TRIGGER), None)

    # --- what is remembered --------------------------------------------------------------------

    def _look(
        self,
        scope: Scope,
        name: str,
        timer: TimerKey,
        pattern: Pattern,
        event: Event | None = None,
    ) -> Look:
        memory = self.state.states.get(scope, {}).get(name)
        before = self._kept.get((scope, name), {})
        found = look(pattern, memory.value if memory else None, before, self._now, event)
        if found.memory is not None or memory is not None:
            self._keep_state(scope, name, found.memory)
        for ref in before.keys() - found.kept.keys():
            self._keep_state(scope, f"{name}/{ref}", None)
        for ref in found.kept.keys() - before.keys():
            self._keep_state(scope, f"{name}/{ref}", encode(found.kept[ref]).decode())
        self._kept[scope, name] = found.kept
        if not found.kept:
            del self._kept[scope, name]
        self._wake_at(timer, found.wake)
        return found

    def _forget_patterns(self, run: Run) -> None:
        """Drop what the rules of an execution remember, and the matches that wait in it."""
        execution_id = run.execution.id
        for kind in (ScopeKind.RULES, ScopeKind.WAITING):
            self._forget_states(Scope(kind, execution_id))
        for rule_name in run.plan.patterns:
            self._drop_timer(TimerKey(TimerKind.WINDOW, execution_id, rule_name))
            self._kept.pop((Scope(ScopeKind.RULES, execution_id), rule_name), None)
        for task_name in run.plan.tasks:
            self._waiting.pop(_queue_key(run, task_name), None)

    def _forget_states(self, scope: Scope) -> None:
        for name in self.state.states.pop(scope, {}):
            self._changes.delete(ConditionState, (scope, name))


class _Queue:
    """The numbers of the matches that wait for a task, and how large these are together."""

    def __init__(self) -> None:
        self.numbers: deque[int] = deque()
        self.characters = 0

    def add(self, number: int, text: str) -> None:
        self.numbers.append(number)
        self.characters += len(text)


def _queue_key(run: Run, task_name: str) -> tuple[int, int]:
    return run.execution.id, run.plan.places[task_name]


def _waiting_name(run: Run, task_name: str, place: int) -> str:
    return f"{run.plan.places[task_name]}/{place}"


def _made_room(event: Event, why: Why) -> Why:
    text = f"event {event.offset} made room for later ones, at most {MOST_KEPT} are kept"
    return why._replace(text=f"{text}; {why.text}")
