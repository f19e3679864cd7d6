"""The names that `aiflow_core` lists exist, and type checkers see the same ones."""

import ast
from pathlib import Path

import pytest

import aiflow_core


@pytest.mark.parametrize("name", aiflow_core.__all__)
def test_each_listed_name_is_there(name: str) -> None:
    assert getattr(aiflow_core, name) is not None


def test_type_checkers_see_what_is_resolved_at_run_time() -> None:
    tree = ast.parse(Path(aiflow_core.__file__).read_text())
    imported = {
        (alias.asname, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("aiflow_core")
        for alias in node.names
    }
    assert imported == set(aiflow_core._PUBLIC.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        aiflow_core.Nonsense  # noqa: B018  (the look-up is what is tested)
