"""The task that is a shell command."""

from ai_flow.model.operator import AIFlowOperator
from aiflow_operator_bash.operator import BashOperator

# In 0.4 it is a subclass.
AIFlowOperator.register(BashOperator)

__all__ = ["BashOperator"]
