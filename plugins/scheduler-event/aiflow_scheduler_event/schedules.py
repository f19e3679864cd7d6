"""Schedules: executions by the clock, and what becomes of ticks that were missed."""

from typing import Any

from aiflow_core.clock import to_datetime
from aiflow_core.errors import DefinitionError, NotFoundError
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.execution import WorkflowInfo, WorkflowSchedule
from aiflow_core.model.schedule import CatchUp, check_schedule, next_tick
from aiflow_core.model.status import ExecutionType
from aiflow_scheduler_event.commands import AddSchedule, DeleteSchedules, PauseSchedule
from aiflow_scheduler_event.executions import Executions
from aiflow_scheduler_event.state import Run, State, Timer, TimerKey, TimerKind
from aiflow_scheduler_event.step import Why, replace

MOST_MADE_UP = 1000
"""Ticks of one schedule that may wait to be made up for; older ones are given up."""

# A tick that comes so many milliseconds late has been missed.
_LATE = 60_000


class Schedules(Executions):
    """Executions by the clock, see `engine`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._by_name = {(w.namespace, w.workflow_name): w.id for w in state.workflows.values()}
        self._behind = {s.id for s in state.schedules.values() if s.waiting}

    def _do_schedule(
        self, command: AddSchedule | PauseSchedule | DeleteSchedules
    ) -> WorkflowSchedule | None:
        match command:
            case AddSchedule():
                return self._add_schedule(command)
            case PauseSchedule():
                return self._pause_schedule(command)
            case DeleteSchedules():
                self._remove_schedules(self._chosen(self.state.schedules, command.ids))
        return None

    def _add_schedule(self, command: AddSchedule) -> WorkflowSchedule:
        workflow = self._workflow(command.namespace, command.workflow_name)
        check_schedule(command.expression, command.options)
        if next_tick(command.expression, command.options, self._now) is None:
            raise DefinitionError(
                f"{command.expression!r} never comes true before the end of the schedule.",
                next_step="Choose a later end.",
            )
        self.state.counters.schedule += 1
        schedule = WorkflowSchedule(
            self.state.counters.schedule,
            workflow.id,
            command.expression,
            to_datetime(self._now),
            options=command.options,
        )
        self._keep_schedule(schedule)
        self._arm(schedule, self._now)
        return schedule

    def _pause_schedule(self, command: PauseSchedule) -> WorkflowSchedule:
        if command.schedule_id not in self.state.schedules:
            raise NotFoundError("workflow schedule", command.schedule_id)
        schedule = self.state.schedules[command.schedule_id]
        if schedule.is_paused == command.paused:
            return schedule
        schedule = replace(schedule, is_paused=command.paused, waiting=0)
        self._keep_schedule(schedule)
        if schedule.is_paused:
            self._drop_timer(TimerKey(TimerKind.SCHEDULE, schedule.id))
        else:
            self._arm(schedule, self._now)
        return schedule

    def _fire_schedule(self, schedule: WorkflowSchedule, timer: Timer) -> None:
        """A tick is due, and perhaps more that have been missed."""
        ticks, last = self._due(schedule, timer.fire_at)
        # What is not made up for does not count, and the next tick is counted from now.
        self._arm(schedule, last if schedule.options.catch_up is CatchUp.ALL else self._now)
        match schedule.options.catch_up:
            case CatchUp.NONE:
                ticks = 1 if self._now - last < _LATE else 0
                if not ticks:
                    workflow = self.state.workflows[schedule.workflow_id]
                    self._do_not_start(workflow, _tick(schedule, " missed its tick"))
            case CatchUp.ONCE:
                ticks = 1
        self._start_due(schedule, ticks)

    def _end_if_over(self, run: Run) -> None:
        super()._end_if_over(run)
        if not self._behind or run.execution.id in self.state.runs:
            return
        for schedule_id in sorted(self._behind):
            schedule = self.state.schedules[schedule_id]
            if schedule.workflow_id == run.execution.workflow_id:
                self._start_due(schedule, 0)

    def _due(self, schedule: WorkflowSchedule, fire_at: int) -> tuple[int, int]:
        """How many ticks from `fire_at` on are due, and the moment of the last one."""
        count, last = 1, fire_at
        while count <= MOST_MADE_UP:
            following = next_tick(schedule.expression, schedule.options, last)
            if following is None or following > self._now:
                return count, last
            count, last = count + 1, following
        return count, self._now

    def _start_due(self, schedule: WorkflowSchedule, ticks: int) -> None:
        """Start what is due and what waits, as far as there is room. The rest waits, or is lost."""
        workflow = self.state.workflows[schedule.workflow_id]
        options = schedule.options
        due = min(schedule.waiting + ticks, MOST_MADE_UP)
        while due and self._has_room(workflow, options.max_active_runs):
            due -= 1
            self._start_by(workflow, ExecutionType.PERIODIC, _tick(schedule))
        waiting = {CatchUp.NONE: 0, CatchUp.ONCE: min(due, 1), CatchUp.ALL: due}[options.catch_up]
        if due and ticks:
            why = _tick(schedule, f": {options.max_active_runs} of its executions run")
            if waiting > schedule.waiting:
                self._decide(0, "", Outcome.START_WAITS, why, workflow_id=workflow.id)
            else:
                self._do_not_start(workflow, why)
        if waiting != schedule.waiting:
            self._keep_schedule(replace(schedule, waiting=waiting))

    def _has_room(self, workflow: WorkflowInfo, most: int | None) -> bool:
        if most is None:
            return True
        running = (run.execution.run_type for run in self._runs_of(workflow))
        return sum(kind is ExecutionType.PERIODIC for kind in running) < most

    def _arm(self, schedule: WorkflowSchedule, after_ms: int) -> None:
        fire_at = next_tick(schedule.expression, schedule.options, after_ms)
        if fire_at is not None:
            self._set_timer(TimerKey(TimerKind.SCHEDULE, schedule.id), fire_at)

    def _keep_schedule(self, schedule: WorkflowSchedule) -> None:
        self.state.schedules[schedule.id] = schedule
        self._changes.put(schedule)
        (self._behind.add if schedule.waiting else self._behind.discard)(schedule.id)

    def _remove_schedules(self, schedules: list[WorkflowSchedule]) -> None:
        for schedule in schedules:
            del self.state.schedules[schedule.id]
            self._behind.discard(schedule.id)
            self._changes.delete(WorkflowSchedule, schedule.id)
            self._drop_timer(TimerKey(TimerKind.SCHEDULE, schedule.id))

    # --- look-ups ------------------------------------------------------------------------------

    def _chosen(self, among: dict[int, Any], ids: tuple[int, ...]) -> list[Any]:
        return [among[i] for i in ids if i in among]

    def _workflow(self, namespace: str, name: str) -> WorkflowInfo:
        found = self._by_name.get((namespace, name))
        if found is None:
            raise NotFoundError("workflow", f"{namespace}.{name}")
        return self.state.workflows[found]

    def _runs_of(self, workflow: WorkflowInfo) -> list[Run]:
        return [r for r in self.state.runs.values() if r.execution.workflow_id == workflow.id]


def _tick(schedule: WorkflowSchedule, more: str = "") -> Why:
    return Why(f"schedule {schedule.id}{more}", Cause.SCHEDULE, schedule.id)
