"""Operators that users write."""

from typing import Any

from aiflow_core.specs.operator import Operator


class AIFlowOperator(Operator):
    """`Operator`, whose name is also called `task_name`."""

    def __init__(self, task_name: str, **config: Any) -> None:
        super().__init__(task_name, **config)


class OperatorConfigItem:
    """Names of options that every operator takes."""

    PERIODIC_EXPRESSION = "periodic_expression"


__all__ = ["AIFlowOperator", "Operator", "OperatorConfigItem"]
