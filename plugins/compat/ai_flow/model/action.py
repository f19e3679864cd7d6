"""What a rule does to its task."""

from aiflow_core.model.rule import TaskAction

__all__ = ["TaskAction"]
