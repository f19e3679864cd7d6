"""The workflows of the page about patterns do what it says, each run as a file of its own."""

from pathlib import Path

import pytest

from .blocks import codes
from .test_examples import lines_of, run_file

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "event-algebra.md"
WORKFLOWS = codes("how-to/event-algebra.md", "python")[:3]

SAID = [
    ("aggregate", ["hour 10: 60 files"]),
    ("alarm", ["The data of tuesday is late."]),
    ("index", ["3 uploads", "3 uploads", "1 uploads"]),
]


@pytest.mark.parametrize(
    ("code", "task", "said"),
    [(code, *said) for code, said in zip(WORKFLOWS, SAID, strict=True)],
    ids=[task for task, _ in SAID],
)
def test_each_workflow_of_the_page_prints_what_the_page_says(
    code: str, task: str, said: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "workflow.py"
    file.write_text(code)

    output = run_file(tmp_path, file)

    assert lines_of(task, output) == said
    assert all(f"`{line}`" in PAGE.read_text() for line in said)
