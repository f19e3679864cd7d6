"""A blob manager whose storage is a directory."""

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiflow_core.errors import NotFoundError, UnavailableError, UsageError
from aiflow_core.specs.blob_manager import BlobManager

_CHUNK = 1024 * 1024


class LocalBlobManager(BlobManager):
    """Keeps each file as `<root>/<first two digits>/<sha256><suffix>`; that path is its uri.

    Client, server and tasks must see the directory under the same path.
    """

    def __init__(self, root_directory: str) -> None:
        self._root = Path(os.path.expanduser(os.path.expandvars(root_directory))).absolute()

    def upload(self, local_file_path: str | Path) -> str:
        source = Path(local_file_path)
        if not source.is_file():
            raise NotFoundError("file", source)
        with self._available():
            self._root.mkdir(parents=True, exist_ok=True)
            with _copy(source, self._root) as (draft, sha256):
                target = self._root / sha256[:2] / f"{sha256}{source.suffix}"
                target.parent.mkdir(exist_ok=True)
                draft.rename(target)
            _sync(target.parent)
        return str(target)

    def download(self, remote_file_path: str, local_dir: str | Path) -> Path:
        stored, local_dir = self._path(remote_file_path), Path(local_dir)
        local_dir.mkdir(parents=True, exist_ok=True)
        with self._available():
            if not stored.is_file():
                raise NotFoundError(
                    "blob", remote_file_path, next_step="Upload the workflow again."
                )
            with _copy(stored, local_dir) as (draft, sha256):
                if sha256 != stored.name[:64]:
                    raise UnavailableError(
                        f"The blob {remote_file_path} is damaged.",
                        next_step="Delete it and upload the workflow again.",
                    )
                return draft.rename(local_dir / stored.name)

    def delete(self, remote_file_path: str) -> None:
        with self._available():
            self._path(remote_file_path).unlink(missing_ok=True)

    def _path(self, uri: str) -> Path:
        path = Path(uri)
        name = path.name
        if path != self._root / name[:2] / name or not re.fullmatch(r"[0-9a-f]{64}(\..*)?", name):
            raise UsageError(
                f"{uri!r} is not the uri of a blob under {self._root}.",
                next_step="Check root_directory of the blob manager.",
            )
        return path

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"The blob directory {self._root} cannot be used: {error.strerror}.",
                next_step="Check that it exists, has room, and is writable.",
            ) from error


@contextmanager
def _copy(source: Path, directory: Path) -> Iterator[tuple[Path, str]]:
    """A durable copy in the directory and its SHA-256; removed unless it was renamed."""
    draft = directory / f".{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, draft.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        yield draft, digest.hexdigest()
    finally:
        draft.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
