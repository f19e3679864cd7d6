"""Why an execution was started."""

from aiflow_core.model.status import ExecutionType

__all__ = ["ExecutionType"]
