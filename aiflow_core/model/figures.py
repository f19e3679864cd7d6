"""Figures: how much there is at one moment, for those who watch a deployment."""

from aiflow_core.model.serialization import Value
from aiflow_core.model.status import TaskStatus, WorkflowStatus


class SchedulerFigures(Value, frozen=True, kw_only=True):
    """What a scheduler looks after.

    Attributes:
        leads: whether this server schedules. Where it only stands by, the rest is 0.
        head: offset of the newest event of the log.
        taken_in: offset of the last event that was decided on.
        inbox: events in memory that wait to be decided on.
        outbox: messages that are decided on and on their way to the log.
        reports: events of the server's own that wait for the log.
        tasks: task executions that are alive, by status.
        executions: workflow executions that are alive, by status.
        dead_letters: events that could not be taken in and were not looked after yet.
    """

    leads: bool
    head: int = 0
    taken_in: int = 0
    inbox: int = 0
    outbox: int = 0
    reports: int = 0
    tasks: dict[TaskStatus, int] = {}
    executions: dict[WorkflowStatus, int] = {}
    dead_letters: int = 0


class ObserverFigures(Value, frozen=True, kw_only=True):
    """How an observer keeps up, since the process began.

    Attributes:
        waiting: calls that wait for it.
        dropped: calls for which there was no room, or that it was left out of.
        failed: calls in which it raised something.
        left_out: whether it is called no more, because a call did not return.
    """

    waiting: int = 0
    dropped: int = 0
    failed: int = 0
    left_out: bool = False
