"""Decisions: why something was done, or was not.

A scheduler keeps one for every look at a rule that mattered. What is asked of these records is told
by `aiflow_core.model.explanation`.
"""

from datetime import datetime
from enum import StrEnum

from aiflow_core.model.condition import Lack
from aiflow_core.model.serialization import Value


class Outcome(StrEnum):
    """What followed."""

    START = "START"
    STOP = "STOP"
    RESTART = "RESTART"
    RESTARTED = "RESTARTED"
    RETRY = "RETRY"
    ASK_AGAIN = "ASK AGAIN"
    NOT_MET = "NOT MET"
    START_IGNORED = "START ignored"
    STOP_IGNORED = "STOP ignored"
    NOT_STARTED = "NOT STARTED"
    START_WAITS = "START waits"
    START_REFUSED = "START refused"
    FORGOTTEN = "FORGOTTEN"


FOLDED = frozenset(
    {
        Outcome.NOT_MET,
        Outcome.START_IGNORED,
        Outcome.STOP_IGNORED,
        Outcome.NOT_STARTED,
        Outcome.START_REFUSED,
        Outcome.FORGOTTEN,
    }
)
"""Outcomes that nothing follows from. Of those that are alike one record is kept, the latest, with
their number: a million events that nothing follows from make no million records."""


class Cause(StrEnum):
    """What made the scheduler look. For most of them `Decision.number` says which one."""

    RULE = "RULE"
    TRIGGER = "TRIGGER"
    SCHEDULE = "SCHEDULE"
    PERIOD = "PERIOD"
    BEGIN = "BEGIN"
    REQUEST = "REQUEST"
    RESTART = "RESTART"
    RETRY = "RETRY"
    TIMEOUT = "TIMEOUT"
    DEAD_LETTER = "DEAD_LETTER"


class Decision(Value, frozen=True):
    """What followed from an event, and why.

    Attributes:
        offset: of the event. For a user's condition it is the event that it was asked about, for a
            pattern the last one of the match.
        workflow_execution_id: 0 where no execution was concerned.
        task_name: empty where the workflow execution itself was concerned.
        why: the reason in words.
        cause: what made the scheduler look, with its `number`: of the rule in its task, from 1; the
            id of the trigger, of the schedule or of the task execution that was restarted.
        time: of the event, by the scheduler's count.
        workflow_id: whose trigger or schedule it was; 0 where an execution says it.
        task_execution_id: the one that was started, stopped or left alone; 0: there was none.
        missing: what the condition still waited for, see `aiflow_core.model.condition.missing`.
        answer_offset: of the later event that brought the outcome: the answer of a user's
            condition, the end of a pattern's window, the end of the task that a match has waited
            for; 0: the outcome followed at once.
        count: of how many that are alike this is the latest.
        first_offset: of the event of the first of these; 0: it is the only one.
        first_time: the time of that; None: it is the only one.
    """

    offset: int
    workflow_execution_id: int
    task_name: str
    what: Outcome
    why: str
    cause: Cause
    number: int
    time: datetime
    workflow_id: int = 0
    task_execution_id: int = 0
    missing: tuple[Lack, ...] = ()
    answer_offset: int = 0
    count: int = 1
    first_offset: int = 0
    first_time: datetime | None = None
