"""Errors travel, and each class ends the command line with its own code."""

import re
from pathlib import Path

import pytest

from aiflow_core.cli.command import EXIT_BUG, EXIT_INTERRUPTED
from aiflow_core.daemon import NotRunningError
from aiflow_core.errors import AIFlowError, NotFoundError, UnavailableError, did_you_mean

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "exit-codes.md"


def error_classes() -> list[type[AIFlowError]]:
    found = [AIFlowError]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub.__module__.startswith("aiflow_core")]
    return found


def test_an_error_says_what_happened_and_what_to_do() -> None:
    error = UnavailableError("It is away.", next_step="Start it.")

    assert str(error) == "It is away. Start it."
    assert (error.what, error.next_step) == ("It is away.", "Start it.")


def test_an_error_with_facts_writes_its_own_sentence() -> None:
    error = NotFoundError("workflow", "default.wf")

    assert str(error) == "No such workflow: default.wf."
    assert (error.kind, error.name) == ("workflow", "default.wf")


@pytest.mark.parametrize("cls", error_classes())
def test_an_error_arrives_as_what_it_was(cls: type[AIFlowError]) -> None:
    facts = {"code": cls.code, "what": "It happened.", "next_step": "Undo it."}

    error = AIFlowError.from_wire(facts)

    assert type(error) is cls
    assert str(error) == "It happened. Undo it."
    assert error.to_wire() == facts


def test_the_error_of_a_newer_server_is_an_error_still() -> None:
    error = AIFlowError.from_wire({"code": "too_good", "what": "Well.", "next_step": ""})

    assert type(error) is AIFlowError
    assert str(error) == "Well."


def test_no_two_errors_have_the_same_code() -> None:
    codes = [cls.code for cls in error_classes()]

    assert NotRunningError.code in codes
    assert len(codes) == len(set(codes))


def test_an_unknown_word_is_answered_with_the_nearest_known_one() -> None:
    assert did_you_mean("blok", ["blob", "scheduler"]) == "Did you mean 'blob'?"
    assert did_you_mean("xyz", ["b", "a"]) == "Known are: a, b."
    assert did_you_mean("xyz", []) == ""


def test_the_reference_lists_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    listed = {int(code): set(re.findall(r"`(\w+)`", errors)) for code, errors in rows}

    expected: dict[int, set[str]] = {0: set(), EXIT_BUG: set(), EXIT_INTERRUPTED: set()}
    for cls in error_classes():
        expected.setdefault(cls.exit_code, set()).add(cls.__name__)
    assert listed == expected
