"""Operators that AIFlow 0.4 had and that are not here: who imports one is told what to do."""

from aiflow_core.errors import DefinitionError


def refusal(module: str, name: str, operator: str, program: str) -> Exception:
    """What a module without its `operator` raises when `name` is looked up in it; `program` does
    the same from a command line."""
    if name != operator:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return DefinitionError(
        f"AIFlow has no {operator} yet.",
        next_step=f"Call `{program}` in a BashOperator, or write an operator of your own.",
    )
