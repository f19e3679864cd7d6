"""Every row of the tables in `docs/reference/rules.md` has a test, and every test its row."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parents[2] / "docs" / "reference" / "rules.md"

Row = tuple[str, str]


def rows() -> set[Row]:
    """Section and first cell of each row."""
    found: set[Row] = set()
    section, is_head = "", True
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif not line.startswith("|"):
            is_head = True
        elif is_head:
            is_head = False
        elif not re.fullmatch(r"[|\s-]+", line):
            found.add((section, line.split(" | ")[0].removeprefix("|").strip()))
    return found


def named_by_tests() -> dict[Row, list[str]]:
    """The rows that tests name, and the tests or classes of tests that do."""
    found: dict[Row, list[str]] = {}
    for file in TESTS.glob("test_*.py"):
        constants = dict[str, str]()
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Assign([ast.Name(name)], ast.Constant(str() as value)):
                    constants[name] = value
                case ast.FunctionDef() | ast.ClassDef():
                    for row in filter(None, (marked(d, constants) for d in node.decorator_list)):
                        found.setdefault(row, []).append(node.name)
    return found


def marked(decorator: ast.expr, constants: dict[str, str]) -> Row | None:
    """The row that a decorator names."""
    match decorator:
        case ast.Call(ast.Name("row"), [section, ast.Constant(str() as cell)]):
            match section:
                case ast.Constant(str() as text):
                    return text, cell
                case ast.Name(name):
                    return constants[name], cell
    return None


def test_every_row_has_a_test_of_its_own() -> None:
    assert rows() - named_by_tests().keys() == set(), "say with `@row` which tests show this"


def test_every_test_has_its_row() -> None:
    assert {row: tests for row, tests in named_by_tests().items() if row not in rows()} == {}


def test_the_tables_are_read() -> None:
    assert len(rows()) > 50
    assert ("Schedules", "`max_active_runs`") in rows()
