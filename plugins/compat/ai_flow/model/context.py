"""What a condition can ask."""

from aiflow_core.model.context import Context

__all__ = ["Context"]
