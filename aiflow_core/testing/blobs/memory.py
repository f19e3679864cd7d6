"""A blob manager that keeps everything in memory."""

import threading
import time
from collections.abc import Iterator

from aiflow_core.errors import (
    CredentialsError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import Blob, BlobManager
from aiflow_core.specs.blob_transfer import CHUNK, Counter, Source


class MemoryStorage:
    """What several managers may share, and what goes wrong with it.

    Attributes:
        secret: who does not bring it is refused.
        exists: whether there is such a bucket.
        is_writable: whether one may store and delete.
        is_reachable: whether it answers.
    """

    def __init__(
        self,
        secret: str = "",
        exists: bool = True,
        is_writable: bool = True,
        is_reachable: bool = True,
    ) -> None:
        self.secret = secret
        self.exists = exists
        self.is_writable = is_writable
        self.is_reachable = is_reachable
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, int]] = {}


class MemoryBlobManager(BlobManager):
    """Keeps files in memory, in a storage of its own unless one is given."""

    def __init__(
        self,
        storage: MemoryStorage | None = None,
        root_directory: str = "blob",
        secret: str = "",
        attempts: int = 5,
        local_repository: str | None = None,
    ) -> None:
        super().__init__(
            f"memory://{root_directory}", attempts=attempts, local_repository=local_repository
        )
        self._storage = storage or MemoryStorage()
        self._secret = secret

    def _put(self, key: str, source: Source, count: Counter) -> None:
        objects = self._objects(writing=True)
        content = b"".join(source.chunks())
        count(len(content))
        with self._storage.lock:
            objects[self._uri(key)] = content, time.time_ns() // 1_000_000

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        found = self._objects().get(self._uri(key))
        if found is None:
            raise NotFoundError("blob", self._uri(key))
        content = found[0][start:stop]
        for begin in range(0, len(content), CHUNK):
            yield content[begin : begin + CHUNK]

    def _stat(self, key: str) -> Blob | None:
        found = self._objects().get(self._uri(key))
        return None if found is None else self._blob(key, len(found[0]), found[1])

    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        objects = self._objects()
        with self._storage.lock:
            found = sorted(objects.items())
        for uri, (content, modified_ms) in found:
            if uri.startswith(self._uri(prefix)):
                key = uri.removeprefix(self._uri(""))
                yield self._blob(key, len(content), modified_ms)

    def _delete(self, key: str) -> None:
        self._objects(writing=True).pop(self._uri(key), None)

    def _objects(self, writing: bool = False) -> dict[str, tuple[bytes, int]]:
        storage = self._storage
        if not storage.is_reachable:
            raise UnavailableError(
                f"{self._root} does not answer.", next_step="Check that it is there."
            )
        if self._secret != storage.secret:
            raise CredentialsError(
                self._root, "the secret is wrong", next_step="Correct the setting `secret`."
            )
        if not storage.exists:
            raise NotFoundError("storage", self._root, next_step="Make it.")
        if writing and not storage.is_writable:
            raise PermissionDeniedError(
                self._root, "it is only to be read", next_step="Make it writable."
            )
        return storage.objects
