"""For workflow authors: a workflow on the real engine, in virtual time, in the process of the test.

    flow = WorkflowTest("workflow.py")
    flow.start()
    flow.succeed("preprocess")
    flow.assert_status("train", "RUNNING")

Tasks do nothing by themselves: an attempt runs until the test lets it end, unless the test has
planned how it goes. The fixture `aiflow_workflow` makes such an object, see `fixtures`.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiflow_core.app import simulation
from aiflow_core.clock import to_ms
from aiflow_core.errors import UsageError, did_you_mean
from aiflow_core.model.condition import as_data
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import DeadLetter, TaskExecution, WorkflowExecution
from aiflow_core.model.explanation import TaskExplanation
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.status import TASK_ALIVE, TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import Workflow
from aiflow_core.rehearsal import RUNS_ON, START, SUCCEEDS, Attempt, Rehearsal

__all__ = ["RUNS_ON", "START", "SUCCEEDS", "Attempt", "WorkflowTest"]


class WorkflowTest:
    """One workflow under test.

    Where a method takes an `execution`, 0 is the newest one. Every method returns when all that
    follows from it at the same moment has happened.

    Args:
        workflow: the workflow, or the path of its file.
        name: which one, where the file has several.
        start: when the virtual time begins, an aware datetime.
        tasks: how an attempt goes for which nothing is planned.
    """

    def __init__(
        self,
        workflow: Workflow | str | Path,
        *,
        name: str = "",
        start: datetime = START,
        tasks: Attempt = RUNS_ON,
    ) -> None:
        self.rehearsal = Rehearsal(simulation(start), default=tasks)
        self._simulation = self.rehearsal.simulation
        if isinstance(workflow, Workflow):
            self.rehearsal.upload(workflow)
            self.workflow = workflow
        else:
            self.workflow = _chosen(self.rehearsal.load(workflow), name)
        self._where = (self.workflow.name, self.workflow.namespace)

    # --- what happens --------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self.rehearsal.now

    def start(self) -> int:
        """Start an execution by hand; its id."""
        return self.rehearsal.start(*self._where)

    def stop(self, execution: int = 0) -> None:
        """Stop an execution."""
        self._simulation.stop_workflow_execution(self._id(execution))
        self.rehearsal.settle()

    def send(
        self, key: str, value: str | None = None, *, namespace: str | None = None, only: int = 0
    ) -> Event:
        """Send an event to the namespace of the workflow, or to the execution `only`, as a task of
        it does."""
        where = self.workflow.namespace if namespace is None else namespace
        return self.rehearsal.send(key, value, where, only)

    def advance(self, delta: timedelta | None = None, **units: float) -> None:
        """Let time pass: a timedelta, or its keywords, as in `advance(hours=1, minutes=30)`."""
        seconds = (timedelta() if delta is None else delta) + timedelta(**units)
        if seconds < timedelta():
            raise UsageError("Time does not pass backwards.")
        now = self._simulation.now_ms
        self.rehearsal.advance_to(now + round(seconds.total_seconds() * 1000))

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until then."""
        self.advance(milliseconds=to_ms(moment) - self._simulation.now_ms)

    def succeed(self, *tasks: str, execution: int = 0) -> None:
        """Let the running attempts of these tasks succeed, one after the other."""
        for task in tasks:
            self._end(task, TaskStatus.SUCCESS, "", execution)

    def fail(self, task: str, reason: str = "failed by the test", execution: int = 0) -> None:
        """Let the running attempt of the task fail; what the task is told of retries holds."""
        self._end(task, TaskStatus.FAILED, reason, execution)

    def act(self, task: str, action: TaskAction | str, execution: int = 0) -> None:
        """Start, stop or restart a task by hand."""
        self._known(task)
        self._simulation.act_on_task(self._id(execution), task, TaskAction(action))
        self.rehearsal.settle()

    def plan(self, task: str, *attempts: Attempt) -> None:
        """How attempts of the task go from now on, see `Rehearsal.plan`."""
        self._known(task)
        self.rehearsal.plan(task, *attempts)

    def execute(self, *tasks: str) -> None:
        """Let attempts of these tasks from now on really execute their operators, in this process
        and at once."""
        for task in tasks:
            self.plan(task, Attempt(really=True))

    def add_schedule(self, expression: str) -> None:
        """Start executions by the clock."""
        self._simulation.add_workflow_schedule(expression, *self._where)

    def add_trigger(self, condition: Any) -> None:
        """Start executions by events."""
        self._simulation.add_workflow_trigger(as_data(condition), *self._where)

    def enable(self, enabled: bool = True) -> None:
        """Enable the workflow, or disable it."""
        self._simulation.enable_workflow(*self._where, enabled=enabled)

    # --- what can be seen ----------------------------------------------------------------------

    @property
    def executions(self) -> list[WorkflowExecution]:
        """All executions, oldest first."""
        return self._simulation.workflow_executions()

    def execution(self, execution: int = 0) -> WorkflowExecution:
        found = {e.id: e for e in self.executions}
        return found[self._id(execution)]

    def runs(self, task: str, execution: int = 0) -> list[TaskExecution]:
        """The executions of a task, oldest first."""
        self._known(task)
        found = self._simulation.task_executions(self._id(execution))
        return [t for t in found if t.task_name == task]

    def status(self, task: str, execution: int = 0) -> TaskStatus | None:
        """Status of the latest execution of the task; None: it has not run."""
        runs = self.runs(task, execution)
        return runs[-1].status if runs else None

    def statuses(self, execution: int = 0) -> dict[str, TaskStatus | None]:
        """The same of all tasks."""
        return {task: self.status(task, execution) for task in self.workflow.tasks}

    def decisions(self, task: str = "", execution: int = 0) -> list[Decision]:
        """What was decided on a task, oldest first; without a task: on the execution itself."""
        chosen = (self._id(execution), task)
        found = self._simulation.decisions()
        return [d for d in found if (d.workflow_execution_id, d.task_name) == chosen]

    def explain(self, task: str, execution: int = 0) -> TaskExplanation:
        """Why the task ran, or what it waits for."""
        self._known(task)
        return self._simulation.explain_task(self._id(execution), task)

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The events that one of the conditions could not take in."""
        return self._simulation.dead_letters()

    # --- what is promised ----------------------------------------------------------------------

    def assert_status(self, task: str, status: TaskStatus | str | None, execution: int = 0) -> None:
        """The latest execution of the task has this status; None: the task has not run."""
        found = self.status(task, execution)
        wanted = None if status is None else TaskStatus(status)
        if found is not wanted:
            is_now = f"is {found}" if found else "has not run"
            is_not = f"it was to be {wanted}" if wanted else "it was not to run"
            raise AssertionError(
                f"Task {task!r} {is_now}, {is_not}.\n{self._told(task, execution)}"
            )

    def assert_runs(self, task: str, count: int, execution: int = 0) -> None:
        """The task has been started so often in the execution."""
        found = len(self.runs(task, execution))
        if found != count:
            raise AssertionError(
                f"Task {task!r} was started {_times(found)}, not {_times(count)}.\n"
                f"{self._told(task, execution)}"
            )

    def assert_decision(
        self, task: str, what: str, because: str = "", execution: int = 0
    ) -> Decision:
        """This was decided on the task, for a reason in which `because` occurs; the last such
        decision. `what` is one of `aiflow_core.model.decision.Outcome`."""
        found = [d for d in self.decisions(task, execution) if d.what == what and because in d.why]
        if not found:
            reason = f" because of {because!r}" if because else ""
            raise AssertionError(
                f"{what} of task {task!r}{reason} was not decided.\n{self._told(task, execution)}"
            )
        return found[-1]

    def assert_ended(self, status: WorkflowStatus | str, execution: int = 0) -> None:
        """The execution has ended with this status."""
        found = self.execution(execution)
        if found.status is not WorkflowStatus(status):
            statuses = ", ".join(f"{t} {s}" for t, s in self.statuses(execution).items())
            reason = f": {found.reason}" if found.reason else ""
            raise AssertionError(
                f"Workflow execution {found.id} is {found.status}{reason}, it was to end with "
                f"{WorkflowStatus(status)}.\n  {statuses}"
            )

    def assert_executions(self, count: int) -> None:
        """There are so many executions."""
        found = len(self.executions)
        if found != count:
            raise AssertionError(
                f"There are {found} executions of workflow {self.workflow.name!r}, not {count}."
            )

    # --- inside --------------------------------------------------------------------------------

    def _id(self, execution: int) -> int:
        ids = [e.id for e in self.executions]
        if not ids:
            raise UsageError(
                f"No execution of workflow {self.workflow.name!r} has been started.",
                next_step="Call start(), or let a trigger or a schedule do it.",
            )
        if execution and execution not in ids:
            raise UsageError(f"There is no execution {execution}.")
        return execution or ids[-1]

    def _known(self, task: str) -> None:
        if task not in self.workflow.tasks:
            raise UsageError(
                f"Workflow {self.workflow.name!r} has no task {task!r}.",
                next_step=did_you_mean(task, list(self.workflow.tasks)),
            )

    def _end(self, task: str, status: TaskStatus, reason: str, execution: int) -> None:
        runs = self.runs(task, execution)
        if not runs or runs[-1].status not in TASK_ALIVE - {TaskStatus.RETRYING}:
            raise AssertionError(
                f"Task {task!r} has no attempt that runs.\n{self._told(task, execution)}"
            )
        self.rehearsal.end(runs[-1].attempt, status, reason)

    def _told(self, task: str, execution: int) -> str:
        """Why it is as it is, for the message of a test that fails."""
        found = self.explain(task, execution)
        lines = [found.summary]
        lines += [f"decided: {d.what} by event {d.offset}: {d.why}" for d in found.decisions]
        lines += [f"waits: {wait.text}" for wait in found.waits]
        return "\n".join(f"  {line}" for line in lines)


def _chosen(workflows: list[Workflow], name: str) -> Workflow:
    named = [w for w in workflows if not name or w.name == name]
    if len(named) == 1:
        return named[0]
    names = [w.name for w in workflows]
    if not named:
        raise UsageError(f"The file has no workflow {name!r}.", next_step=did_you_mean(name, names))
    raise UsageError(
        f"The file has several workflows: {', '.join(names)}.", next_step="Say which by name=."
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")
