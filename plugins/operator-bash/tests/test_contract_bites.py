"""The contract suite finds out operators that do not keep their promises: each of these breaks one,
and is caught by the test that is named beside it."""

from typing import Any

import pytest

from aiflow_core.errors import AIFlowError
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.operator import Operator, TaskContext
from aiflow_core.testing.operator import OperatorContract
from aiflow_operator_bash.operator import BashOperator


class FailsWithoutAWord(BashOperator):
    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        assert self._process is not None
        self._process.wait()


class FailsAlways(BashOperator):
    def start(self, context: TaskContext) -> None:
        raise AIFlowError("no")


class ForgetsTheOptions(BashOperator):
    def __init__(self, name: str, bash_command: str, **config: Any) -> None:
        super().__init__(name, bash_command)


class TakesAnyOption(BashOperator):
    def __init__(self, name: str, bash_command: str, **config: Any) -> None:
        config.pop("no_such_option", None)
        super().__init__(name, bash_command, **config)


class BelongsNowhere(BashOperator):
    def __init__(self, name: str, bash_command: str, **config: Any) -> None:
        with Workflow("elsewhere"):
            super().__init__(name, bash_command, **config)


class IsInstalledUnderNoName(BashOperator):
    pass


class IsCalledLikeAnother(BashOperator):
    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        return "python", {}


class TellsItsOptionsAsParameters(BashOperator):
    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        return "bash", {"bash_command": "true", "retries": 3}


class TellsNoParameters(BashOperator):
    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        return "bash", {}


class TellsParametersThatAreNoData(BashOperator):
    def operator_and_params(self) -> tuple[str, dict[str, Any] | None]:
        return "bash", {"bash_command": object()}


class StopsWhatItHasNot(BashOperator):
    def stop(self, context: TaskContext) -> None:
        self._process.terminate()  # type: ignore[union-attr]


class StopsTwice(BashOperator):
    def stop(self, context: TaskContext) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise AIFlowError("It has ended.")


@pytest.mark.parametrize(
    ("operator", "test"),
    [
        (FailsWithoutAWord, "what_fails_raises"),
        (FailsAlways, "what_succeeds_returns"),
        (ForgetsTheOptions, "it_takes_the_options_of_every_task"),
        (TakesAnyOption, "an_option_that_no_task_has_is_refused"),
        (BelongsNowhere, "it_belongs_to_the_workflow_around_it"),
        (IsInstalledUnderNoName, "it_is_found_by_the_name_under_which_it_is_installed"),
        (IsCalledLikeAnother, "it_is_found_by_the_name_under_which_it_is_installed"),
        (TellsItsOptionsAsParameters, "its_options_are_not_among_its_parameters"),
        (TellsNoParameters, "what_runs_from_its_definition_does_the_same"),
        (TellsParametersThatAreNoData, "what_runs_from_its_definition_does_the_same"),
        (StopsWhatItHasNot, "stopping_what_did_not_begin_does_nothing"),
        (StopsTwice, "stopping_what_has_ended_does_nothing"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_broken_operator_is_caught(operator: type[BashOperator], test: str) -> None:
    class Suite(OperatorContract):
        def make(self, name: str, **config: object) -> Operator:
            return operator(name, bash_command="true", **config)

        def make_failing(self, name: str) -> Operator:
            return operator(name, bash_command="exit 3")

    method = getattr(Suite(), f"test_{test}")
    with Workflow("contract") as workflow:
        # An operator may break a promise by an error of AIFlow's own, of Python's (a constructor
        # that misses an argument), or by none where there should be one.
        caught = (AssertionError, AIFlowError, TypeError, AttributeError, pytest.fail.Exception)
        with pytest.raises(caught):
            method(workflow) if "workflow" in method.__code__.co_varnames else method()
