"""Reads the logs of tasks that this machine has."""

from pathlib import Path

from aiflow_core.model.execution import LogPage

PAGE_BYTES = 256 * 1024


def read_page(path: Path, position: int) -> LogPage | None:
    """The piece of a log that begins at `position`; None when there is no such file."""
    position = max(position, 0)
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read(PAGE_BYTES)
    except FileNotFoundError:
        return None
    return LogPage(data, position + len(data))
