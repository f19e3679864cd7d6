"""The working copies in which the tasks of an execution find and leave their files."""

import fcntl
import shutil
from pathlib import Path

from aiflow_core.model.workflow import check_name


def working_copy(
    home: Path, workflow_name: str, execution_id: int, source: Path, stem: str
) -> Path:
    """The execution's own copy of the unpacked bundle `source`, made by whoever comes first:
    `<home>/working_dir/<workflow>/<execution>/<stem of the workflow file>/`."""
    check_name("workflow", workflow_name)
    parent = home / "working_dir" / workflow_name / str(int(execution_id))
    target = parent / stem
    if target.is_dir():
        return target
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            draft = parent / ".draft"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source, draft)
            draft.rename(target)
    return target
