"""Namespaces as they are kept."""

from aiflow_core.model.execution import Namespace as NamespaceMeta

__all__ = ["NamespaceMeta"]
