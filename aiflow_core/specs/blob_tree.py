"""Blob managers whose store is a tree of directories, in which a file can be renamed."""

import logging
import threading
import uuid
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from aiflow_core.specs.blob_manager import Blob, BlobManager
from aiflow_core.specs.blob_transfer import Counter, Source

log = logging.getLogger(__name__)

_DRAFTS = ".drafts"
_STALE_MS = 86_400_000


class Entry(msgspec.Struct, frozen=True):
    """A file or directory in a directory; size and time of a directory do not matter."""

    name: str
    is_directory: bool
    size: int = 0
    modified_ms: int = 0


class TreeBlobManager(BlobManager):
    """A file is written as a draft, which is renamed when it is whole; what writers that died left
    behind is removed a day later. Paths are relative to the root, with `/` between their parts."""

    def __init__(self, root: str, **settings: Any) -> None:
        super().__init__(root, **settings)
        self._swept = threading.Event()

    def _put(self, key: str, source: Source, count: Counter) -> None:
        self._sweep()
        draft = f"{_DRAFTS}/{uuid.uuid4().hex}"
        try:
            self._write(draft, source, count)
            self._publish(draft, key)
        except BaseException:
            self._discard(draft)
            raise

    def _discard(self, draft: str) -> None:
        try:
            self._delete(draft)
        except Exception:
            # What went wrong before matters more, and the draft is swept away one day.
            log.warning("The draft %s of %s could not be removed", draft, self._root, exc_info=True)

    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        return self._below("", prefix, after)

    def _below(self, folder: str, prefix: str, after: str) -> Iterator[Blob]:
        # A directory stands where the keys stand that begin with it and a slash.
        for name, entry in sorted(
            (f"{e.name}/" if e.is_directory else e.name, e) for e in self._entries(folder)
        ):
            path = folder + name
            if name.startswith("."):
                continue
            if not entry.is_directory:
                yield self._blob(path, entry.size, entry.modified_ms)
            elif _meet(path, prefix) and (after < path or after.startswith(path)):
                yield from self._below(path, prefix, after)

    def _sweep(self) -> None:
        if self._swept.is_set():
            return
        self._swept.set()
        oldest = self.clock.now_ms() - _STALE_MS
        for entry in self._entries(f"{_DRAFTS}/"):
            if not entry.is_directory and entry.modified_ms < oldest:
                self._delete(f"{_DRAFTS}/{entry.name}")

    @abstractmethod
    def _write(self, path: str, source: Source, count: Counter) -> None:
        """Write a new file durably, and make the directories above it that are missing."""

    @abstractmethod
    def _publish(self, draft: str, key: str) -> None:
        """Rename durably, in place of what may be there; make the directories that are missing."""

    @abstractmethod
    def _entries(self, folder: str) -> Iterable[Entry]:
        """What is in a directory, whose path ends with `/` or is empty; nothing when there is no
        such directory."""


def _meet(path: str, prefix: str) -> bool:
    return path.startswith(prefix) or prefix.startswith(path)
