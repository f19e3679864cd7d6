"""Rules."""

from aiflow_core.model.rule import TaskRule, WorkflowRule

__all__ = ["TaskRule", "WorkflowRule"]
