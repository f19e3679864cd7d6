"""Which lines are told of a log."""

from pathlib import Path
from typing import Any

import pytest

from aiflow_core.clock import Clock
from aiflow_core.model.execution import AttemptKey
from aiflow_executor_local.log_lines import LONGEST, LogLines

KEY = AttemptKey(workflow_execution_id=1, task_name="t", sequence_number=1)


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def task_log_line(self, key: AttemptKey, line: str) -> None:
        assert key == KEY
        self.lines.append(line)

    def take(self) -> list[str]:
        taken, self.lines = self.lines, []
        return taken


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def lines(heard: Any) -> LogLines:
    return LogLines(heard, Clock())


def test_a_line_is_told_when_it_is_whole(tmp_path: Path, lines: LogLines, heard: Heard) -> None:
    path = tmp_path / "log"
    lines.follow(KEY, path, anew=True)
    lines.look()
    with path.open("wb", buffering=0) as log:
        log.write(b"one\n\ntw")
        lines.look()
        assert heard.take() == ["one", ""]
        log.write(b"o\nthr\xffee")
        lines.look()
        assert heard.take() == ["two"]
    lines.end(KEY)

    lines.look()

    assert heard.take() == ["thr\N{REPLACEMENT CHARACTER}ee"]
    path.write_text("a file of that name, later\n" * 3)
    lines.look()
    assert heard.take() == []


def test_a_line_without_an_end_comes_in_parts(
    tmp_path: Path, lines: LogLines, heard: Heard
) -> None:
    path = tmp_path / "log"
    lines.follow(KEY, path, anew=True)
    path.write_text("short\n" + "x" * (2 * LONGEST + 1))

    lines.look()
    assert heard.take() == ["short", "x" * LONGEST, "x" * LONGEST]
    with path.open("a") as log:
        log.write("y\n")
    lines.look()
    assert heard.take() == ["xy"]


def test_much_is_told_in_one_look(tmp_path: Path, lines: LogLines, heard: Heard) -> None:
    path = tmp_path / "log"
    lines.follow(KEY, path, anew=True)
    written = [f"line {number}" for number in range(300_000)]
    path.write_text("\n".join(written))

    lines.end(KEY)
    lines.look()

    assert heard.take() == written


def test_what_was_there_before_it_was_taken_over_is_not_told(
    tmp_path: Path, lines: LogLines, heard: Heard
) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    lines.follow(KEY, path, anew=False)
    with path.open("a") as log:
        log.write("after\n")

    lines.look()

    assert heard.take() == ["after"]
