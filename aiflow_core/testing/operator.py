"""The contract suite of operators, and the means to run one without an executor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiflow_core.errors import DefinitionError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.serialization import is_plain
from aiflow_core.model.workflow import Workflow
from aiflow_core.plugins import driver_class
from aiflow_core.specs.operator import Operator, TaskContext


def run(operator: Operator) -> None:
    """What the process of an attempt does with an operator; raises what makes the task fail."""
    context = context_of(operator)
    operator.start(context)
    operator.await_termination(context)


def context_of(operator: Operator) -> TaskContext:
    """The context of a first attempt of the task."""
    return TaskContext(
        key=AttemptKey(workflow_execution_id=1, task_name=operator.name, sequence_number=1),
        namespace=operator.workflow.namespace,
        workflow_name=operator.workflow.name,
        workflow=operator.workflow,
    )


class OperatorContract(ABC):
    """What every operator must do. Subclass it as `Test...`, make ones that succeed and fail."""

    @abstractmethod
    def make(self, name: str, **config: object) -> Operator:
        """An operator that succeeds, given the options of a task."""

    @abstractmethod
    def make_failing(self, name: str) -> Operator:
        """An operator that fails."""

    @pytest.fixture(autouse=True)
    def workflow(self) -> Iterator[Workflow]:
        """The workflow to which the operators of a test belong."""
        with Workflow("contract") as workflow:
            yield workflow

    def test_what_succeeds_returns(self) -> None:
        run(self.make("good"))

    def test_what_fails_raises(self) -> None:
        operator = self.make_failing("bad")

        with pytest.raises(Exception, match=r"."):
            run(operator)

    def test_it_belongs_to_the_workflow_around_it(self, workflow: Workflow) -> None:
        operator = self.make("task")

        assert workflow.tasks == {"task": operator}
        assert operator.workflow is workflow

    def test_it_takes_the_options_of_every_task(self) -> None:
        config = self.make("task", retries=3, timeout=2.5).definition().config

        assert (config.retries, config.timeout) == (3, 2.5)

    def test_an_option_that_no_task_has_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="no_such_option"):
            self.make("task", no_such_option=1)

    def test_it_is_found_by_the_name_under_which_it_is_installed(self) -> None:
        operator = self.make("task")

        name = operator.definition().operator
        assert driver_class("aiflow.operator", name) is type(operator)

    def test_its_options_are_not_among_its_parameters(self) -> None:
        params = self.make("task", retries=3).definition().params

        assert params is None or "retries" not in params

    def test_what_runs_from_its_definition_does_the_same(self) -> None:
        definition = self.make("task").definition()
        if definition.params is None:
            return  # holds code, and is looked up in the workflow file
        assert is_plain(definition.params)
        params: dict[str, Any] = definition.params
        cls = driver_class("aiflow.operator", definition.operator)

        with_new_workflow(lambda: run(cls(definition.name, **params)))

    def test_stopping_what_did_not_begin_does_nothing(self) -> None:
        operator = self.make("task")

        operator.stop(context_of(operator))

    def test_stopping_what_has_ended_does_nothing(self) -> None:
        operator = self.make("task")
        run(operator)

        operator.stop(context_of(operator))


def with_new_workflow(work: Callable[[], None]) -> None:
    """Do the work inside a workflow of its own, as a process that runs one task would."""
    from contextvars import Context

    def inside() -> None:
        with Workflow("contract"):
            work()

    Context().run(inside)
