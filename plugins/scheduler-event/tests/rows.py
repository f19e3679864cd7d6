"""Ties a test to a row of a table in `docs/reference/rules.md`."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def row(section: str, first_cell: str) -> Callable[[T], T]:
    """The test (or class of tests) shows what the row says. `test_rows` looks for each one."""

    def mark(test: T) -> T:
        return test

    return mark
