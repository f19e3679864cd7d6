"""The contract suite finds out schedulers that do not keep their promises: each of these breaks
one, and is caught by the test that is named beside it. That a sound one passes the whole suite is
shown in test_memory_scheduler.py."""

import inspect
from typing import Any

import msgspec
import pytest

import aiflow_core.testing.waiting
from aiflow_core.errors import AIFlowError, ConflictError, NotFoundError
from aiflow_core.model.execution import (
    BundleRef,
    DeadLetter,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.status import WorkflowStatus
from aiflow_core.model.workflow import DEFAULT_NAMESPACE, TaskDefinition, WorkflowDefinition
from aiflow_core.testing.scheduler import GO, MemoryScheduler, SchedulerContract, burier, workflow

replace = msgspec.structs.replace


# --- requests ---


class _Remembers(MemoryScheduler):
    kind: type[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self._outcomes = self.kind()


class ForgetsRequests(_Remembers):
    class kind(dict[str, Any]):
        def __contains__(self, id: object) -> bool:
            return False


class ForgetsRefusals(_Remembers):
    class kind(dict[str, Any]):
        def __contains__(self, id: object) -> bool:
            return super().__contains__(id) and not isinstance(self.get(str(id)), AIFlowError)


class CutsRequestIds(_Remembers):
    class kind(dict[str, Any]):
        def __contains__(self, id: object) -> bool:
            return super().__contains__(str(id)[:200])

        def __setitem__(self, id: str, outcome: Any) -> None:
            super().__setitem__(id[:200], outcome)

        def __getitem__(self, id: str) -> Any:
            return super().__getitem__(id[:200])


# --- workflows, namespaces ---


class FillsInWhatIsMissing(MemoryScheduler):
    def submit_workflow(
        self, definition: WorkflowDefinition, bundle: BundleRef | None = None
    ) -> WorkflowInfo:
        tasks = definition.tasks or (TaskDefinition(name="nothing"),)
        return super().submit_workflow(replace(definition, tasks=tasks), bundle)


class StartsDisabledWorkflows(MemoryScheduler):
    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution:
        self._enable(workflow_name, namespace, True)
        return super().start_workflow_execution(workflow_name, namespace)


class StopsWhatRunsOfADisabledWorkflow(MemoryScheduler):
    def _enable(self, workflow_name: str, namespace: str, is_enabled: bool) -> None:
        super()._enable(workflow_name, namespace, is_enabled)
        for execution in self._executions.chosen(status=WorkflowStatus.RUNNING):
            self._stop_execution(execution)


class CallsAnUnknownWorkflowAConflict(MemoryScheduler):
    def get_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowInfo:
        try:
            return super().get_workflow(workflow_name, namespace)
        except NotFoundError as error:
            raise ConflictError(str(error)) from error


class MixesNamespaces(MemoryScheduler):
    def get_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowInfo:
        return self._workflows.chosen(workflow_name=workflow_name)[-1]


class ListsEveryNamespace(MemoryScheduler):
    def list_workflows(
        self, namespace: str = DEFAULT_NAMESPACE, limit: int | None = None, offset: int = 0
    ) -> list[WorkflowInfo]:
        return self._workflows.chosen()


class GivesWorkflowIdsAgain(MemoryScheduler):
    def delete_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        super().delete_workflow(workflow_name, namespace)
        self._workflows = type(self._workflows)("workflow")


# --- executions, tasks ---


class GivesExecutionIdsAgain(MemoryScheduler):
    def _erase(self, execution_id: int) -> None:
        super()._erase(execution_id)
        self._executions = type(self._executions)("workflow execution")


class DeletesWhatRuns(MemoryScheduler):
    def delete_workflow_execution(self, workflow_execution_id: int) -> None:
        self._erase(workflow_execution_id)


class LeavesTasksOfDeletedExecutions(MemoryScheduler):
    def _erase(self, execution_id: int) -> None:
        self._executions.remove(execution_id)


class LeavesTasksOfStoppedExecutions(MemoryScheduler):
    def _stop(self, task: TaskExecution, reason: str) -> TaskExecution:
        return task


class StartsWhatRunsOnceMore(MemoryScheduler):
    def start_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        return self._start(workflow_execution_id, task_name)


# --- what belongs to a workflow or an execution ---


class PausesInItsAnswerOnly(MemoryScheduler):
    def pause_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        return replace(self.get_workflow_trigger(trigger_id), is_paused=True)


class GivesTriggerIdsAgain(MemoryScheduler):
    def delete_workflow_trigger(self, trigger_id: int) -> None:
        super().delete_workflow_trigger(trigger_id)
        self._triggers = type(self._triggers)("workflow trigger")


class DeletesSnapshotsInUse(MemoryScheduler):
    def _is_needed(self, snapshot: WorkflowSnapshot) -> bool:
        return False


class TakesStateAfterTheEnd(MemoryScheduler):
    def put_state(self, workflow_execution_id: int, name: str, value: str | None) -> None:
        self._states[workflow_execution_id, name] = value or ""


class SharesStates(MemoryScheduler):
    def get_state(self, workflow_execution_id: int, name: str) -> str | None:
        return next((value for (_, n), value in self._states.items() if n == name), None)


class ListsNewestFirst(MemoryScheduler):
    def _of(self, *which: Any) -> list[Any]:
        return super()._of(*which)[::-1]


class LimitsBeforeItSkips(MemoryScheduler):
    def _of(self, shelf: Any, name: str, namespace: str, limit: int | None, offset: int) -> Any:
        return super()._of(shelf, name, namespace, limit, 0)[offset:]


class KeepsLettersThatWereDealtWith(MemoryScheduler):
    def _strike(self, letters: list[DeadLetter]) -> int:
        return len(letters)


CAUGHT = {
    ForgetsRequests: "a_repeated_request_takes_place_once_and_is_answered_the_same",
    ForgetsRefusals: "a_request_that_was_refused_stays_refused",
    CutsRequestIds: "request_ids_are_told_apart_letter_by_letter",
    FillsInWhatIsMissing: "a_workflow_that_could_not_do_what_it_says_is_refused",
    StartsDisabledWorkflows: "a_disabled_workflow_starts_no_execution_until_it_is_enabled",
    StopsWhatRunsOfADisabledWorkflow: "disabling_does_not_affect_what_runs",
    CallsAnUnknownWorkflowAConflict: "an_unknown_workflow_is_not_found",
    MixesNamespaces: "one_name_in_two_namespaces_is_two_workflows",
    ListsEveryNamespace: "one_name_in_two_namespaces_is_two_workflows",
    GivesWorkflowIdsAgain: "a_name_may_be_used_again_after_deletion_and_ids_never_are",
    GivesExecutionIdsAgain: "an_execution_is_deleted_with_its_tasks_when_it_has_ended",
    DeletesWhatRuns: "an_execution_is_deleted_with_its_tasks_when_it_has_ended",
    LeavesTasksOfDeletedExecutions: "an_execution_is_deleted_with_its_tasks_when_it_has_ended",
    LeavesTasksOfStoppedExecutions: "a_stopped_execution_ends_when_its_last_task_is_gone",
    StartsWhatRunsOnceMore: "starting_a_task_that_runs_changes_nothing",
    PausesInItsAnswerOnly: "a_trigger_is_added_paused_resumed_and_deleted",
    GivesTriggerIdsAgain: "ids_of_deleted_schedules_and_triggers_are_never_given_again",
    DeletesSnapshotsInUse: "a_snapshot_is_deleted_when_nothing_needs_it_any_more",
    TakesStateAfterTheEnd: "an_execution_that_has_ended_is_left_no_state",
    SharesStates: "a_state_belongs_to_its_execution",
    ListsNewestFirst: "lists_are_ordered_by_id_and_cut_by_limit_and_offset",
    LimitsBeforeItSkips: "lists_are_ordered_by_id_and_cut_by_limit_and_offset",
    KeepsLettersThatWereDealtWith: "all_dead_letters_are_dealt_with_at_once",
}


def run(name: str, scheduler: MemoryScheduler, expected: Any = None) -> None:
    """Run that case of the suite; only the case itself, not its fixtures, may raise `expected`."""
    case = getattr(SchedulerContract(), f"test_{name}")
    wanted = inspect.signature(case).parameters
    given: dict[str, Any] = {"scheduler": scheduler, "rule": GO, "verb": "drop"}
    if "bury" in wanted:
        given["bury"] = burier(scheduler)
    if {"flow", "execution"} & set(wanted):
        given["flow"] = scheduler.submit_workflow(workflow())
    if "execution" in wanted:
        given["execution"] = scheduler.start_workflow_execution("flow")
    arguments = {name: given[name] for name in wanted}
    if expected is None:
        case(**arguments)
    else:
        with pytest.raises(expected):
            case(**arguments)


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda cls: cls.__name__)
def test_a_broken_scheduler_is_caught(
    broken: type[MemoryScheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits long for what will not come.
    monkeypatch.setattr(aiflow_core.testing.waiting, "PATIENCE", 0.5)
    # The last is for another error in the place of the one that should have been raised.
    run(CAUGHT[broken], broken(), (AssertionError, pytest.fail.Exception, AIFlowError))


@pytest.mark.parametrize("name", sorted(set(CAUGHT.values())))
def test_a_sound_scheduler_passes_the_same_case(name: str) -> None:
    run(name, MemoryScheduler())
