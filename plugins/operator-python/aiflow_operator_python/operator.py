"""The Python operator."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiflow_core.errors import DefinitionError
from aiflow_core.specs.operator import Operator, TaskContext


class PythonOperator(Operator):
    """Calls a function; succeeds when it returns.

    What it returns is written to the task's log, unless it is None. It finds the events that
    started the task in `aiflow_core.current_context().events`.

    Args:
        python_callable: the function.
        op_args: its positional arguments.
        op_kwargs: its keyword arguments.
    """

    def __init__(
        self,
        name: str,
        python_callable: Callable[..., Any],
        op_args: Iterable[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        if not callable(python_callable):
            raise DefinitionError("`python_callable` param must be callable")
        super().__init__(name, **config)
        self.python_callable = python_callable
        self.op_args = list(op_args or ())
        self.op_kwargs = dict(op_kwargs or {})

    def start(self, context: TaskContext) -> None:
        result = self.python_callable(*self.op_args, **self.op_kwargs)
        if result is not None:
            self.log.info("The function returned %r", result)
