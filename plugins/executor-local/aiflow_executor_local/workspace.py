"""Where attempts find their files: unpacked bundles, working copies, logs."""

import fcntl
import os
import shutil
import uuid
from pathlib import Path

from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey, BundleRef
from aiflow_core.model.workflow import check_name
from aiflow_core.specs.blob_manager import BlobManager


def snapshot(home: Path, bundle: BundleRef) -> Path:
    """Directory of the unpacked bundle; it may not be there yet."""
    check_name("bundle", bundle.sha256)
    return home / "snapshots" / bundle.sha256


def fetch(home: Path, bundle: BundleRef, blobs: BlobManager) -> Path:
    """The directory of the unpacked bundle, fetched and verified when it is not there."""
    target = snapshot(home, bundle)
    if target.is_dir():
        return target
    import hashlib

    from aiflow_core.bundle import extract

    download = home / "snapshots" / f".{uuid.uuid4().hex}"
    try:
        archive = blobs.download(bundle.uri, download)
        with archive.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != bundle.sha256:
            raise UnavailableError(
                f"The bundle {bundle.uri} is not the one that was uploaded.",
                next_step="Upload the workflow again.",
            )
        return extract(archive, target)
    finally:
        shutil.rmtree(download, ignore_errors=True)


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


def log_file(log_dir: str | os.PathLike[str], workflow_name: str, key: AttemptKey) -> Path:
    """`<log_dir>/<workflow>/<execution>/<task>/<sequence number>[.<try number>].log`; the first
    try goes without number."""
    check_name("workflow", workflow_name)
    check_name("task", key.task_name)
    attempt = f".{int(key.try_number)}" if key.try_number > 1 else ""
    return (
        Path(log_dir)
        / workflow_name
        / str(int(key.workflow_execution_id))
        / key.task_name
        / f"{int(key.sequence_number)}{attempt}.log"
    )
