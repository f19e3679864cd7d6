"""A blob manager whose store is whatever fsspec speaks."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import fsspec

from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    NotFoundError,
    PermissionDeniedError,
    PluginError,
    UnavailableError,
    did_you_mean,
)
from aiflow_core.specs.blob_manager import Blob
from aiflow_core.specs.blob_transfer import CHUNK, Counter, Source, of_system, ranges
from aiflow_core.specs.blob_tree import Entry, TreeBlobManager

_OBJECT_STORES = {
    *("abfs", "abfss", "adl", "az", "gcs", "gs", "oci", "ocilake", "oss", "s3", "s3a", "tos"),
}
"""In these a file appears when it is whole, and a rename is a copy."""


class FsspecBlobManager(TreeBlobManager):
    """A uri is `<protocol>://<root directory>/<key>`.

    Args:
        protocol: as fsspec calls it: `gcs`, `az`, `sftp`, `smb`, `memory` ...
        root_directory: path of the directory, with the bucket or container first where there is
            one; made when missing, except for the bucket.
        storage_options: what the file system of that protocol takes, such as its credentials.
        connections: how many pieces of a large file are read at once, where the file system can.
        attempts, local_repository: as of every blob manager.
    """

    def __init__(
        self,
        protocol: str,
        root_directory: str,
        storage_options: dict[str, Any] | None = None,
        connections: int = 4,
        attempts: int = 5,
        local_repository: str | None = None,
    ) -> None:
        self._directory = root_directory.rstrip("/")
        super().__init__(
            f"{protocol}://{self._directory}", attempts=attempts, local_repository=local_repository
        )
        self._is_object_store = protocol in _OBJECT_STORES
        self._protocol = protocol
        self._options = dict(storage_options or {})
        self._class = _class_of(protocol)
        self._local = threading.local()
        # Others would connect for each piece, and an asynchronous one bears several at once.
        self.connections = connections if self._class.async_impl else 1

    def _put(self, key: str, source: Source, count: Counter) -> None:
        if not self._is_object_store:
            super()._put(key, source, count)
            return
        file = self._files.open(self._path(key), "wb", autocommit=False)
        try:
            _copy(source, file, count)
            file.close()
        except BaseException:
            file.discard()
            raise
        file.commit()

    def _write(self, path: str, source: Source, count: Counter) -> None:
        target = self._path(path)
        self._make_parent_of(target)
        with self._files.open(target, "wb") as file:
            _copy(source, file, count)

    def _publish(self, draft: str, key: str) -> None:
        source, target = self._path(draft), self._path(key)
        self._make_parent_of(target)
        if type(self._files).mv is fsspec.AbstractFileSystem.mv:
            # The inherited one would take some characters of a name for a pattern.
            self._files.cp_file(source, target)
            self._files.rm_file(source)
        else:
            self._files.mv(source, target)

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        for begin, end in ranges(stop - start, CHUNK):
            yield self._files.cat_file(self._path(key), start=start + begin, end=start + end)

    def _stat(self, key: str) -> Blob | None:
        try:
            self._files.invalidate_cache()  # others store and delete, too
            found = self._files.info(self._path(key))
        except FileNotFoundError:
            return None
        return self._blob(key, found["size"], self._modified_ms(found))

    def _entries(self, folder: str) -> Iterable[Entry]:
        try:
            self._files.invalidate_cache()
            found = self._files.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return
        for about in found:
            name = about["name"].rstrip("/").rpartition("/")[2]
            is_directory = about["type"] == "directory"
            yield Entry(name, is_directory, about["size"] or 0, self._modified_ms(about))

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path(key))

    def _explain(self, error: Exception) -> AIFlowError | None:
        name, said = type(error).__name__, str(error).strip().rstrip(".")
        if isinstance(error, FileNotFoundError):
            return NotFoundError(
                "file or directory", said, next_step="Check root_directory, and make what it names."
            )
        if isinstance(error, PermissionError):
            return PermissionDeniedError(
                self._root, said or name, next_step="Give the user of storage_options the right."
            )
        if "Authentication" in name or "Credential" in name or "Unauthorized" in name:
            return CredentialsError(self._root, said or name, next_step="Check storage_options.")
        if isinstance(error, OSError) and error.errno:
            return self._lost(of_system(self._root, error))
        if isinstance(error, (OSError, EOFError)) or type(error).__module__ != "builtins":
            return self._lost(
                UnavailableError(
                    f"{self._root} does not answer: {name} {said}.",
                    next_step="Check storage_options and the network.",
                )
            )
        return None

    # ---------------------------------------------------------------------------------------------

    @property
    def _files(self) -> Any:
        """The file system of this thread; made at its first use, because many connect when they are
        made. Those that hold one connection do not bear several threads."""
        if getattr(self._local, "files", None) is None:
            try:
                self._local.files = self._class(**self._options, skip_instance_cache=True)
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"The storage_options of {self._protocol!r} are wrong: {error}.",
                    next_step="See the documentation of its file system.",
                ) from error
        return self._local.files

    def _lost(self, error: AIFlowError) -> AIFlowError:
        """The next try begins with a new connection."""
        self._local.files = None
        return error

    def _path(self, path: str) -> str:
        return f"{self._directory}/{path}".rstrip("/")

    def _make_parent_of(self, path: str) -> None:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _modified_ms(self, about: dict[str, Any]) -> int:
        """When it was stored. Now, if the file system does not tell: then nothing is taken for
        something that died long ago."""
        for name in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
            match about.get(name):
                case datetime() as moment:
                    return round(moment.timestamp() * 1000)
                case int() | float() as seconds:
                    return round(seconds * 1000)
                case str() as text:
                    return round(datetime.fromisoformat(text).timestamp() * 1000)
        return self.clock.now_ms()


def _copy(source: Source, file: Any, count: Counter) -> None:
    for chunk in source.chunks():
        file.write(chunk)
        count(len(chunk))


def _class_of(protocol: str) -> Any:
    try:
        return fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise ConfigError(
            f"fsspec knows no protocol {protocol!r}.",
            next_step=did_you_mean(protocol, fsspec.available_protocols()),
        ) from error
    except ImportError as error:
        raise PluginError(
            f"The protocol {protocol!r} needs another package: {error}.",
            next_step="Install it wherever the blob manager is used.",
        ) from error
