"""What can be asked of the scheduler.

A command is an event of the log, of type COMMAND; its value is one of these.
"""

from typing import Any

from aiflow_core.model.condition import AnyCondition
from aiflow_core.model.event import Event
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.schedule import ScheduleOptions
from aiflow_core.model.serialization import Value
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_scheduler_event.state import Evaluation, LetterKey


class SubmitWorkflow(Value, tag=True, frozen=True):
    definition: WorkflowDefinition
    bundle: BundleRef | None = None


class _OfWorkflow(Value, frozen=True):
    workflow_name: str
    namespace: str


class DeleteWorkflow(_OfWorkflow, tag=True, frozen=True): ...


class EnableWorkflow(_OfWorkflow, tag=True, frozen=True):
    enabled: bool


class StartExecution(_OfWorkflow, tag=True, frozen=True): ...


class StopExecution(Value, tag=True, frozen=True):
    workflow_execution_id: int


class StopExecutions(_OfWorkflow, tag=True, frozen=True): ...


class DeleteExecution(Value, tag=True, frozen=True):
    workflow_execution_id: int


class ActOnTask(Value, tag=True, frozen=True):
    workflow_execution_id: int
    task_name: str
    action: str


class PutState(Value, tag=True, frozen=True):
    """Leave a state of an execution so, or, with None, forget it."""

    workflow_execution_id: int
    name: str
    value: str | None


class PutNamespace(Value, tag=True, frozen=True):
    """Add (`must_exist` False) or change (True) a namespace."""

    name: str
    properties: dict[str, Any]
    must_exist: bool


class DeleteNamespace(Value, tag=True, frozen=True):
    name: str


class AddSchedule(_OfWorkflow, tag=True, frozen=True):
    expression: str
    options: ScheduleOptions = ScheduleOptions()


class PauseSchedule(Value, tag=True, frozen=True):
    schedule_id: int
    paused: bool


class DeleteSchedules(Value, tag=True, frozen=True):
    ids: tuple[int, ...]


class AddTrigger(_OfWorkflow, tag=True, frozen=True):
    rule: AnyCondition


class PauseTrigger(Value, tag=True, frozen=True):
    trigger_id: int
    paused: bool


class DeleteTriggers(Value, tag=True, frozen=True):
    ids: tuple[int, ...]


class DeleteSnapshots(Value, tag=True, frozen=True):
    """Delete those of the snapshots that nothing needs; `strict`: refuse when one is needed."""

    ids: tuple[int, ...]
    strict: bool


class Redriven(Value, frozen=True):
    """A dead letter with what is to be taken up again: the evaluation that failed, or the event
    that the scheduler itself could not take in."""

    key: LetterKey
    evaluation: Evaluation | None = None
    event: Event | None = None


class RedriveDeadLetters(Value, tag=True, frozen=True):
    """Take up all of these again, or none."""

    letters: tuple[Redriven, ...]


class DropDeadLetters(Value, tag=True, frozen=True):
    keys: tuple[LetterKey, ...]


Command = (
    SubmitWorkflow
    | DeleteWorkflow
    | EnableWorkflow
    | StartExecution
    | StopExecution
    | StopExecutions
    | DeleteExecution
    | ActOnTask
    | PutState
    | PutNamespace
    | DeleteNamespace
    | AddSchedule
    | PauseSchedule
    | DeleteSchedules
    | AddTrigger
    | PauseTrigger
    | DeleteTriggers
    | DeleteSnapshots
    | RedriveDeadLetters
    | DropDeadLetters
)
