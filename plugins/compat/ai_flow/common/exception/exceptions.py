"""The error that everything raises."""

from aiflow_core.errors import AIFlowError as AIFlowException

__all__ = ["AIFlowException"]
