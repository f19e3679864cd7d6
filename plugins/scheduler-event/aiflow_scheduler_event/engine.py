"""The engine: what an event leads to.

PURE: a step is a function of the state and the event. No clock (the time is the event's), no
database, no thread, no user code. `apply` changes the state in memory and says in `Changes` what is
to be written; whoever calls it makes that durable, or throws the engine away and loads another.

What the words mean is told in `docs/reference/rules.md`; each row there is a test.
"""

from typing import Any

from aiflow_core.clock import to_datetime
from aiflow_core.errors import AIFlowError, ConflictError
from aiflow_core.model.algebra import Pattern
from aiflow_core.model.condition import (
    CustomCondition,
    TaskStatusCondition,
    missing,
)
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.event import Event, EventType, hears
from aiflow_core.model.execution import (
    WorkflowTrigger,
)
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode
from aiflow_core.model.status import (
    ExecutionType,
)
from aiflow_scheduler_event.administration import Administration
from aiflow_scheduler_event.commands import Command, RedriveDeadLetters, Redriven
from aiflow_scheduler_event.state import (
    Alarm,
    Changes,
    DeadLetter,
    Evaluation,
    Intent,
    Run,
    Scope,
    ScopeKind,
    TimerKind,
)
from aiflow_scheduler_event.step import (
    SENDER,
    Answer,
    Surroundings,
    Why,
    replace,
    rule_met,
    trigger_met,
)


class Engine(Administration):
    """Decides. One thread at a time.

    The layers below, bottom up: `step` (what is written), `tasks`, `executions`, `schedules`,
    `administration`.
    """

    def apply(self, event: Event, changes: Changes) -> None:
        """Take in the next event of the log and add what it changes to `changes`."""
        self._begin(event, changes)
        if event.type is EventType.COMMAND:
            self._command(event)
        else:
            self._take_in(event)
        self._settle()
        self.state.offset = event.offset

    def _take_in(self, event: Event) -> None:
        match event.type:
            case EventType.TASK_STATUS if event.sender != SENDER:
                self._report(event)
            case EventType.TIMER:
                self._timer(event)
            case EventType.ANSWER:
                self._answer(event)
            case EventType.USER | EventType.WORKFLOW_STATUS:
                self._hear(event)

    def _settle(self) -> None:
        """Carry status changes to the rules that wait for them, then end what is at its end."""
        while self._cascade or self._ended or self._touched:
            while self._cascade:
                self._hear_status(*self._cascade.popleft())
            if self._ended:
                # Only now: whoever waits for the status has seen it.
                self._start_waiting(*self._ended.popleft())
                continue
            touched, self._touched = self._touched, {}
            for run in touched.values():
                self._end_if_over(run)

    # --- events and rules ----------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        """An event that is not about a task of ours: rules by key, then triggers."""
        for listener in sorted(self._index.matching(event)):
            if listener.is_trigger:
                self._try_trigger(self.state.triggers[listener.id], event)
                continue
            only = event.workflow_execution_id
            running = self._running_on.get(listener.id, set())
            chosen = sorted(running) if only is None else [only] if only in running else []
            for run_id in chosen:
                if run := self.state.runs.get(run_id):
                    self._try_rules(run, listener.task_name, event)

    def _hear_status(self, run: Run, task_name: str, change: Event) -> None:
        """A task of `run` took a status: status rules first, then whoever listens to the key."""
        for name in run.plan.after.get(task_name, ()):
            self._try_rules(run, name, change, changed=task_name)
        self._hear(change)

    def _try_rules(
        self, run: Run, task_name: str, event: Event, changed: str = "", first: int = 0
    ) -> None:
        """The rules of one task for one event: the first whose condition is met acts."""
        if run.execution.stopping or run.execution.id not in self.state.runs:
            return
        task = run.plan.tasks[task_name]
        for number, rule in enumerate(task.rules[first:], first):
            condition = rule.condition
            if isinstance(condition, TaskStatusCondition):
                concerned = bool(changed) and condition.statuses.get(changed) == event.value
            else:
                keys = condition.expect_event_keys
                concerned = not changed and any(hears(k, event) for k in keys)
            if not concerned:
                continue
            if isinstance(condition, CustomCondition):
                run.evaluations += 1
                self._evaluate(run.scope, event, task_name=task_name, rule=number)
                return
            if isinstance(condition, Pattern):
                if self._try_pattern(run, task, number, event):
                    return
                continue
            surroundings = Surroundings(self, run.scope, run.status)
            why = rule_met(number, condition_text(condition), self._placed(event))
            if condition.is_met(event, surroundings):
                # The statuses of tasks can be asked for at any time; only events are handed over.
                events = () if changed else (self._placed(event),)
                self._act(run, task, rule.action, why, events)
                return
            self._decide(
                run.execution.id,
                task_name,
                Outcome.NOT_MET,
                why,
                missing=missing(condition, surroundings),
            )

    def _try_trigger(self, trigger: WorkflowTrigger, event: Event) -> None:
        workflow = self.state.workflows[trigger.workflow_id]
        if trigger.is_paused:
            self._leave_paused(trigger, event)
            return
        scope = Scope(ScopeKind.WORKFLOW, workflow.id)
        condition = trigger.rule
        if isinstance(condition, CustomCondition):
            self._evaluate(scope, event, trigger_id=trigger.id)
        elif isinstance(condition, Pattern):
            found = self._hear_trigger(trigger, condition, event)
            for match in (*found.due, *found.met):
                self._fire_trigger(trigger, match)
        else:
            surroundings = Surroundings(self, scope, lambda name: None)
            if condition.is_met(event, surroundings):
                self._fire_trigger(trigger, (self._placed(event),))
            else:
                self._decide(
                    *(0, "", Outcome.NOT_MET, trigger_met(trigger, event)),
                    workflow_id=workflow.id,
                    missing=missing(condition, surroundings),
                )

    def _wake_trigger(self, trigger: WorkflowTrigger) -> None:
        """A window of the trigger has ended."""
        assert isinstance(trigger.rule, Pattern)
        for match in self._look_at_trigger(trigger, trigger.rule).due:
            if trigger.is_paused:
                self._leave_paused(trigger, match[-1])
            else:
                self._fire_trigger(trigger, match)

    def _leave_paused(self, trigger: WorkflowTrigger, event: Event) -> None:
        why = trigger_met(trigger, event)._replace(text=f"trigger {trigger.id} is paused")
        self._do_not_start(self.state.workflows[trigger.workflow_id], why)

    def _fire_trigger(self, trigger: WorkflowTrigger, events: tuple[Event, ...]) -> None:
        workflow = self.state.workflows[trigger.workflow_id]
        why = trigger_met(trigger, events[-1])
        self._start_by(workflow, ExecutionType.EVENT, why, events)

    def _answer(self, event: Event) -> None:
        answer = decode(event.value or "", Answer)
        evaluation = self.state.evaluations.get(answer.evaluation_id)
        if evaluation is None:
            return  # answered already, or its execution was stopped meanwhile
        for name, value in answer.states.items():
            self._keep_state(evaluation.scope, name, value)
        self._drop_evaluation(evaluation)
        if answer.error:
            self._changes.dead_letters.append(
                DeadLetter(
                    evaluation.event.offset,
                    evaluation.consumer,
                    answer.error,
                    to_datetime(self._now),
                    answer.tries,
                    evaluation,
                )
            )
        if evaluation.trigger_id:
            self._answer_trigger(self.state.triggers[evaluation.trigger_id], evaluation, answer)
        elif run := self.state.runs.get(evaluation.scope.id):
            self._answer_rule(run, evaluation, answer)

    def _answer_trigger(
        self, trigger: WorkflowTrigger, evaluation: Evaluation, answer: Answer
    ) -> None:
        if answer.met:
            self._fire_trigger(trigger, (evaluation.event,))
            return
        why = trigger_met(trigger, evaluation.event)
        if answer.error:
            why = why._replace(text=f"condition failed: {answer.error}; {why.text}")
        self._decide(0, "", Outcome.NOT_MET, why, workflow_id=trigger.workflow_id)

    def _answer_rule(self, run: Run, evaluation: Evaluation, answer: Answer) -> None:
        run.evaluations -= 1
        self._touched[run.execution.id] = run
        task = run.plan.tasks[evaluation.task_name]
        rule = task.rules[evaluation.rule]
        why = rule_met(evaluation.rule, "custom condition", evaluation.event)
        if answer.met and not run.execution.stopping:
            self._act(run, task, rule.action, why, (evaluation.event,))
            return
        if answer.error:
            why = why._replace(text=f"condition failed: {answer.error}; {why.text}")
        self._decide(run.execution.id, task.name, Outcome.NOT_MET, why)
        if not evaluation.redriven:
            self._try_rules(run, task.name, evaluation.event, first=evaluation.rule + 1)

    # --- dead letters --------------------------------------------------------------------------

    def _do(self, command: Command) -> Any:
        if not isinstance(command, RedriveDeadLetters):
            return super()._do(command)
        for letter in command.letters:
            self._check_redrive(letter)
        for letter in command.letters:
            self._redrive(letter)
        return None

    def _check_redrive(self, letter: Redriven) -> None:
        """Raise `ConflictError` when nobody is there any more who could take it in."""
        whose = f"Dead letter {letter.key.offset}, {letter.key.consumer}"
        evaluation = letter.evaluation
        if evaluation is None:
            if letter.event is None or letter.event.type is EventType.COMMAND:
                raise ConflictError(
                    f"{whose}: it is a request, and whoever made it was told that it failed.",
                    next_step="Make the request again, and drop the letter.",
                )
        elif evaluation.trigger_id:
            trigger = self.state.triggers.get(evaluation.trigger_id)
            if trigger is None:
                raise ConflictError(f"{whose}: the trigger is gone.", next_step="Drop the letter.")
            if trigger.is_paused:
                raise ConflictError(
                    f"{whose}: the trigger is paused.",
                    next_step=f"Run `aiflow workflow-trigger resume {trigger.id}` first.",
                )
        else:
            run = self.state.runs.get(evaluation.scope.id)
            if run is None or run.execution.stopping:
                raise ConflictError(
                    f"{whose}: workflow execution {evaluation.scope.id} is not running any more.",
                    next_step="Drop the letter.",
                )

    def _redrive(self, letter: Redriven) -> None:
        self._changes.redriven_letters.append(letter.key)
        evaluation = letter.evaluation
        if evaluation is None:
            assert letter.event is not None
            # As of now: it is as if it had come with this command.
            now = replace(letter.event, offset=self._event.offset, create_time=self._now)
            try:
                self._take_in(now)
            except AIFlowError as error:
                # Half of it may be done. It is not a refusal, which would leave that as it is.
                raise RuntimeError(f"event {letter.key.offset} again: {error}") from error
            return
        why = Why(f"dead letter {letter.key.offset}, {letter.key.consumer}", Cause.DEAD_LETTER)
        if not evaluation.trigger_id:
            run = self.state.runs[evaluation.scope.id]
            task = run.plan.tasks[evaluation.task_name]
            if isinstance(task.rules[evaluation.rule].condition, Pattern):
                self._try_pattern(run, task, evaluation.rule, evaluation.event)
                return
            run.evaluations += 1
            self._decide(run.execution.id, evaluation.task_name, Outcome.ASK_AGAIN, why)
        self._evaluate(
            evaluation.scope,
            evaluation.event,
            evaluation.task_name,
            evaluation.rule,
            evaluation.trigger_id,
            redriven=True,
        )

    # --- timers --------------------------------------------------------------------------------

    def _timer(self, event: Event) -> None:
        alarm = decode(event.value or "", Alarm)
        self._reach(max(alarm.timer.fire_at, alarm.now_ms))
        timer = self.state.timers.get(alarm.timer.key)
        if timer != alarm.timer:
            return  # it was set anew or dropped meanwhile
        self._drop_timer(timer.key)
        if timer.key.kind is TimerKind.SCHEDULE:
            self._fire_schedule(self.state.schedules[timer.key.owner], timer)
            return
        if timer.key.kind is TimerKind.TRIGGER:
            self._wake_trigger(self.state.triggers[timer.key.owner])
            return
        run = self.state.runs[timer.key.owner]
        live = run.tasks.get(timer.key.task_name)
        match timer.key.kind:
            case TimerKind.PERIOD:
                task = run.plan.tasks[timer.key.task_name]
                self._set_period(run.execution.id, task)
                self._act(run, task, TaskAction.RESTART, Why("the task's period", Cause.PERIOD))
            case TimerKind.WINDOW:
                self._wake_rule(run, timer.key.task_name)
            case TimerKind.RETRY if live is not None:
                self._retry(run, live)
            case TimerKind.TIMEOUT if live is not None:
                limit = run.plan.tasks[live.task_name].config.timeout
                why = Why("time-out", Cause.TIMEOUT)
                self._decide_on(run, live.task_name, Outcome.STOP, why)
                self._stop_task(run, live, Intent.FAIL, f"timed out after {limit:g} s")


def condition_text(condition: Any) -> str:
    """A condition in a few words, for reasons and decision records."""
    if isinstance(condition, Pattern):
        return str(condition)
    if isinstance(condition, TaskStatusCondition):
        return " and ".join(f"{task} {status}" for task, status in condition.statuses.items())
    return f"event {' or '.join(condition.expect_event_keys)}"
