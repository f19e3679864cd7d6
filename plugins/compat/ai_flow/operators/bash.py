"""The task that is a shell command."""

from aiflow_operator_bash.operator import BashOperator

__all__ = ["BashOperator"]
