"""A blob manager whose storage is a directory."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aiflow_core.errors import AIFlowError, NotFoundError
from aiflow_core.specs.blob_manager import Blob
from aiflow_core.specs.blob_transfer import CHUNK, Counter, Source, local_directory, of_system
from aiflow_core.specs.blob_tree import Entry, TreeBlobManager


class LocalBlobManager(TreeBlobManager):
    """Keeps each file as `<root>/<first two digits>/<sha256><suffix>`; that path is its uri.

    Client, server and tasks must see the directory under the same path.
    """

    connections = 1  # there is no line whose delays others could fill

    def __init__(
        self, root_directory: str, attempts: int = 5, local_repository: str | None = None
    ) -> None:
        self._directory = local_directory(root_directory)
        super().__init__(str(self._directory), attempts=attempts, local_repository=local_repository)

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    def _write(self, path: str, source: Source, count: Counter) -> None:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in source.chunks():
                file.write(chunk)
                count(len(chunk))
            file.flush()
            os.fsync(file.fileno())

    def _publish(self, draft: str, key: str) -> None:
        target = self._directory / key
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._directory / draft).rename(target)
        _sync(target.parent)

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        with (self._directory / key).open("rb") as file:
            file.seek(start)
            while chunk := file.read(min(CHUNK, stop - file.tell())):
                yield chunk

    def _stat(self, key: str) -> Blob | None:
        try:
            found = (self._directory / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return self._blob(key, found.st_size, found.st_mtime_ns // 1_000_000)

    def _entries(self, folder: str) -> Iterator[Entry]:
        path = self._directory / folder
        if not path.exists():
            return
        with os.scandir(path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it goes while we look
                    found = entry.stat(follow_symlinks=False)
                    is_directory = entry.is_dir(follow_symlinks=False)
                    modified_ms = found.st_mtime_ns // 1_000_000
                    yield Entry(entry.name, is_directory, found.st_size, modified_ms)

    def _delete(self, key: str) -> None:
        (self._directory / key).unlink(missing_ok=True)

    def _explain(self, error: Exception) -> AIFlowError | None:
        if isinstance(error, FileNotFoundError):
            return NotFoundError(
                "file", error.filename, next_step="It was deleted meanwhile; try again."
            )
        if isinstance(error, OSError):
            return of_system(f"The blob directory {self._root}", error)
        return None


def _sync(directory: Path) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
