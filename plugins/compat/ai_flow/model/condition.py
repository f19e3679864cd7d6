"""Conditions that users write."""

from aiflow_core.model.condition import Condition

__all__ = ["Condition"]
