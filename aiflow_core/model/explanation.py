"""Explanations: why something ran, why not yet, and what an event led to."""

from datetime import datetime

from aiflow_core.model.condition import Lack
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    DeadLetter,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
)
from aiflow_core.model.serialization import Value


class Wait(Value, frozen=True):
    """One thing that is waited for, as of now.

    Attributes:
        text: what it is, as a sentence without its full stop.
        rule: number of the rule that waits, from 1; 0: it is no rule of a task.
        missing: what its condition still needs.
        since: since when it is waited for, where that is known.
        until: when it comes by itself, where that is known.
    """

    text: str
    rule: int = 0
    missing: tuple[Lack, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class TaskExplanation(Value, frozen=True):
    """Why a task of a workflow execution ran, or has not.

    Attributes:
        task: the task execution in question: the one that was asked for, or the latest. None: the
            task has not run.
        summary: the answer in one sentence.
        decisions: what was decided on it, oldest first.
        waits: what would have to come for it to go on, to end, or to run again.
    """

    summary: str
    workflow: WorkflowInfo
    execution: WorkflowExecution
    task_name: str
    task: TaskExecution | None
    decisions: tuple[Decision, ...] = ()
    waits: tuple[Wait, ...] = ()


class WorkflowExplanation(Value, frozen=True):
    """Why executions of a workflow start, or do not.

    Attributes:
        summary: the answer in one sentence.
        decisions: the times when one was due and was not started.
        waits: what would start the next one: each schedule and each trigger.
    """

    summary: str
    workflow: WorkflowInfo
    decisions: tuple[Decision, ...] = ()
    waits: tuple[Wait, ...] = ()


class EventExplanation(Value, frozen=True):
    """What an event led to.

    Attributes:
        event: None when the log has forgotten it.
        summary: the answer in one sentence.
        decisions: what followed from it. One that covers several events may cover it: its `count`
            is above 1 and its offsets lie around that of the event.
        task_executions: those that it started, stopped or restarted.
        workflow_executions: those that it started.
        followed: the first events that came of these, of the next some thousand of the log: what
            the scheduler told, what became of the attempts, and what they sent.
        dead_letters: of whom could not take it in.
        hints: why nobody did anything about it, who might have.
    """

    summary: str
    offset: int
    event: Event | None
    decisions: tuple[Decision, ...] = ()
    task_executions: tuple[TaskExecution, ...] = ()
    workflow_executions: tuple[WorkflowExecution, ...] = ()
    followed: tuple[Event, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    hints: tuple[str, ...] = ()
