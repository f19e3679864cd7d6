"""Operators whose plugin is not installed: who imports one is told what to install."""

from aiflow_core.errors import DefinitionError


def refusal(operator: str, extra: str) -> DefinitionError:
    """What is raised when an `operator` is imported and its plugin is missing."""
    return DefinitionError(
        f"{operator} needs a plugin that is not installed.",
        next_step=f"Run `pip install aiflow-operator-{extra}`.",
    )
