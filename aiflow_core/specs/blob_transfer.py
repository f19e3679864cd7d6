"""What blob managers send and count: the local file, its pieces, and how far they have come."""

import errno
import hashlib
import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from aiflow_core.errors import (
    AIFlowError,
    ConflictError,
    NoRoomError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 1024 * 1024
"""Bytes that are held in memory at once, for each thread."""

Progress = Callable[[int, int], None]
"""Is told how many bytes are done, and of how many; from any thread, one at a time."""

_MAX_SUFFIX_BYTES = 64


class Source:
    """A local file on its way into a store.

    Attributes:
        size: bytes.
        sha256: of its content, in hexadecimal digits.
        suffix: of its name with the dot, in normal form C; empty when it has none or one that is no
            name elsewhere.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once. `NotFoundError` when it is missing or no plain file."""
        if not path.is_file():
            raise NotFoundError("file", path, next_step="Check the path.")
        self._path = path
        with explained(f"The file {path}"), path.open("rb") as file:
            self._state = _state(file.fileno())
            self.size = self._state[0]
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        suffix = unicodedata.normalize("NFC", path.suffix)  # some stores do it, and some do not
        fits = suffix.isprintable() and not set(suffix) & set("\\:")
        self.suffix = suffix if fits and len(suffix.encode()) <= _MAX_SUFFIX_BYTES else ""

    def read(self, start: int, stop: int) -> bytes:
        """That part of the content."""
        with self._opened(start) as read:
            content = read(stop - start)
        if len(content) < stop - start:
            raise self._changed()
        return content

    def chunks(self) -> Iterator[bytes]:
        """All of the content, in pieces of at most `CHUNK`, and `check` at the end."""
        with self._opened(0) as read:
            while chunk := read(CHUNK):
                yield chunk
        self.check()

    def check(self) -> None:
        """Raise `ConflictError` when the file is not what it was: to be called when all was read
        and before others can see it."""
        with self._opened(0):
            pass

    @contextmanager
    def _opened(self, start: int) -> Iterator[Callable[[int], bytes]]:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise self._changed() from error
        with file:
            file.seek(start)
            yield file.read
            if _state(file.fileno()) != self._state:
                raise self._changed()

    def _changed(self) -> ConflictError:
        return ConflictError(
            f"The file {self._path} changed while it was uploaded.",
            next_step="Upload it when it is finished.",
        )


class Counter:
    """Adds up how far a transfer has come, and tells it; what is sent twice counts once."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._done = 0
        self._told = -1
        self._progress = progress

    def __call__(self, count: int) -> None:
        """Another `count` bytes are there."""
        with self._lock:
            self._done += count
            self._tell()

    def finish(self) -> None:
        """All is there."""
        with self._lock:
            self._done = self._total
            self._tell()

    def _tell(self) -> None:
        done = min(self._done, self._total)
        if self._progress is not None and done > self._told:
            self._told = done
            self._progress(done, self._total)


def ranges(size: int, length: int) -> list[tuple[int, int]]:
    """Start and stop of the pieces of that length of which something of that size consists."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def in_parallel(work: Callable[[T], R], items: Iterable[T], connections: int) -> Iterator[R]:
    """What `work` makes of each item, in the order of the items, while others are being worked on.

    After the first error no further item is begun; it is raised when those under way have ended.
    """
    items = list(items)
    if len(items) < 2 or connections < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(min(connections, len(items)), "aiflow-blob") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise what the operating system says of `what` as an error of ours."""
    try:
        yield
    except OSError as error:
        raise of_system(what, error) from error


def of_system(what: str, error: OSError) -> AIFlowError:
    """What an `OSError` means, said of `what`."""
    reason = error.strerror or str(error) or type(error).__name__
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDeniedError(
                what, reason, next_step="Give the user of this process the right to do it."
            )
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return NoRoomError(f"{what} has no room left: {reason}.", next_step="Make room there.")
        case _:
            return UnavailableError(
                f"{what} cannot be used: {reason}.",
                next_step="Check that it exists and can be reached.",
            )


def local_directory(setting: str) -> Path:
    """The directory that a setting names; `~` and environment variables are expanded."""
    return Path(os.path.expanduser(os.path.expandvars(setting))).absolute()


def _state(descriptor: int) -> tuple[int, int, int]:
    """Size, time of the last change, and number of the file."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, found.st_ino
