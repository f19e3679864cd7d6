import logging
from typing import Any

import pytest

from aiflow_core.errors import DefinitionError
from aiflow_core.specs.operator import Operator
from aiflow_core.testing.operator import OperatorContract, run
from aiflow_operator_python.operator import PythonOperator


def fail() -> None:
    raise ValueError("no such luck")


class TestPythonOperator(OperatorContract):
    def make(self, name: str, **config: Any) -> Operator:
        return PythonOperator(name, python_callable=lambda: None, **config)

    def make_failing(self, name: str) -> Operator:
        return PythonOperator(name, python_callable=fail)

    def test_the_function_is_given_its_arguments(self) -> None:
        seen = []

        def note(*args: int, **kwargs: int) -> None:
            seen.append((args, kwargs))

        run(PythonOperator("task", note, op_args=[1, 2], op_kwargs={"three": 3}))

        assert seen == [((1, 2), {"three": 3})]

    def test_what_the_function_raises_is_raised(self) -> None:
        with pytest.raises(ValueError, match="no such luck"):
            run(self.make_failing("bad"))

    def test_what_the_function_returns_is_written_to_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            run(PythonOperator("task", lambda: {"rows": 3}))
            run(PythonOperator("silent", lambda: None))

        assert caplog.messages == ["The function returned {'rows': 3}"]

    def test_what_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="`python_callable` param must be callable"):
            PythonOperator("task", python_callable="print")  # type: ignore[arg-type]

    def test_it_is_looked_up_in_the_workflow_file(self) -> None:
        definition = PythonOperator("task", fail).definition()

        assert (definition.operator, definition.params) == ("python", None)
