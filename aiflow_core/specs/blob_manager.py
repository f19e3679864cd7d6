"""BlobManager: where bundles, projects and the files that tasks pass on are kept.

The verbs stand here, once for all stores: names by content, verification, repetition, progress,
projects. A store adds the hooks at the end of the class, and says in `_explain` what the exceptions
of its library mean.
"""

import hashlib
import os
import random
import re
import shutil
import tempfile
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from aiflow_core import archive
from aiflow_core.clock import Clock
from aiflow_core.errors import (
    AIFlowError,
    DamagedError,
    NoRoomError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from aiflow_core.model.workflow import check_name
from aiflow_core.specs.blob_transfer import (
    CHUNK,
    Counter,
    Progress,
    Source,
    explained,
    in_parallel,
    local_directory,
    of_system,
    ranges,
)

T = TypeVar("T")

_KEY = re.compile(
    r"(?:(?P<head>[0-9a-f]{2})/(?P=head)|projects/[A-Za-z0-9_][A-Za-z0-9_.-]*/[0-9a-f]{2})"
    r"[0-9a-f]{62}(?:\.[^/\\\x00-\x1f\x7f]{1,64})?"
)
_FRESH_MS = 3_600_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is kept.

    Attributes:
        key: its place below the root of the manager.
        uri: what `download` and `delete` take.
        size: bytes.
        modified_ms: when it was last stored, by the clock of the store.
    """

    key: str
    uri: str
    size: int
    modified_ms: int


class BlobManager(ABC):
    """Keeps files by content.

    Errors: `NotFoundError` for a uri that names nothing here, and for a bucket that does not exist;
    `UsageError` for a uri that this manager did not make; `UnavailableError` when the store does
    not answer, after `attempts` tries with growing pauses; `CredentialsError`,
    `PermissionDeniedError`, `DamagedError` and `NoRoomError` as they say.

    Constructor keywords are the manager's settings. All methods may be called from any thread, and
    any number of processes may use one store.

    Attributes:
        clock: by which it pauses.
        connections: how many pieces of a large file are under way at once.
        range_bytes: how much of a large file is asked for at once.
    """

    clock = Clock()
    connections = 4
    range_bytes = 16 * 1024**2

    # Not only in `__init__`: managers of 0.4, which define all verbs themselves, do not call it.
    _root = ""
    _attempts = 5
    _local_repository: Path | None = None

    def __init__(
        self, root: str, *, attempts: int = 5, local_repository: str | None = None
    ) -> None:
        """
        Args:
            root: what all uris begin with, without a closing slash.
            attempts: how often a call is tried while the store does not answer.
            local_repository: where projects are unpacked when `download_project` is given no path.
        """
        if attempts < 1:
            raise UsageError("`attempts` of a blob manager is at least 1.")
        self._root = root
        self._attempts = attempts
        if local_repository is not None:
            self._local_repository = local_directory(local_repository)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._root}>"

    # --- files ---------------------------------------------------------------------------------

    def upload(self, local_file_path: str | Path, progress: Progress | None = None) -> str:
        """Keep a copy of the file and return its uri.

        The uri is a function of the content (and of the file's suffix): the same content again is
        the same uri. A reader sees the whole file or none. The local file stays as it is;
        `ConflictError` when it changes meanwhile. When this returns, the copy is durable.
        """
        return self._keep(Path(local_file_path), "", progress)

    def download(
        self, remote_file_path: str, local_dir: str | Path, progress: Progress | None = None
    ) -> Path:
        """Put the file of that uri into the directory (made if missing) and return its path.

        The content is verified, and the local file appears whole or not at all. When the line is
        cut, reading goes on where it broke off.
        """
        key, directory = self._key(remote_file_path), Path(local_dir)
        blob = self._persistently(lambda: self._stat(key))
        if blob is None:
            raise NotFoundError("blob", remote_file_path, next_step="Upload the file again.")
        name = key.rpartition("/")[2]
        with explained(f"The directory {directory}"):
            directory.mkdir(parents=True, exist_ok=True)
            draft = directory / f".{uuid.uuid4().hex}"
            try:
                if self._fetch(blob, draft, Counter(blob.size, progress)) != name[:64]:
                    raise DamagedError(
                        "blob", remote_file_path, next_step="Delete it and upload the file again."
                    )
                return draft.rename(directory / name)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def delete(self, remote_file_path: str) -> None:
        """Forget the file of that uri; nothing happens when it is not there.

        Who deletes what nobody needs any more leaves alone what is younger than a day: `upload`
        makes what is older than an hour young again, but does not ask whether it is being deleted.
        """
        key = self._key(remote_file_path)
        self._persistently(lambda: self._delete(key))

    def list_blobs(self, prefix: str = "") -> Iterator[Blob]:
        """What is kept under keys that begin with `prefix`, in the order of the keys.

        The key of a file is `<two digits>/<SHA-256><suffix>`, of a project
        `projects/<snapshot>/<SHA-256>.zip`. What comes or goes meanwhile may be missed.
        """
        after = ""
        listing: Iterator[Blob] | None = None

        def following() -> Blob | None:
            nonlocal listing
            if listing is None:
                listing = self._list(prefix, after)
            try:
                return next((b for b in listing if _is_listed(b.key, prefix, after)), None)
            except Exception:
                listing = None  # it is over; a new one begins after the last key
                raise

        while (blob := self._persistently(following)) is not None:
            after = blob.key
            yield blob

    # --- projects ------------------------------------------------------------------------------

    def upload_project(self, workflow_snapshot_id: str | int, project_path: str | Path) -> str:
        """Keep all that is in the directory for that snapshot, and return the uri.

        Each snapshot has a copy of its own, so that cleaning up one never takes from another.
        `UsageError` when there is no such directory, or it holds more than an archive may.
        """
        folder = _folder(workflow_snapshot_id)
        with packed_project(project_path) as packed:
            return self._keep(packed, folder, None)

    def download_project(
        self,
        workflow_snapshot_id: str | int,
        remote_path: str,
        local_path: str | Path | None = None,
    ) -> str:
        """Unpack a snapshot's project below `local_path` and return the directory that holds it.

        Without a path: below the setting `local_repository`, or else in a new directory for
        temporary files. The archive is not trusted: `UsageError` when it holds anything that could
        do harm, and then nothing is left of it.
        """
        snapshot = _folder(workflow_snapshot_id).rpartition("/")[2]
        where = Path(local_path) if local_path is not None else self._local_repository
        with tempfile.TemporaryDirectory(prefix="aiflow-") as directory:
            packed = self.download(remote_path, directory)
            if where is not None:
                with explained(f"The directory {where}"):
                    return str(archive.extract(packed, where / snapshot / packed.stem))
            new = Path(tempfile.mkdtemp(prefix="aiflow-project-"))
            try:
                return str(archive.extract(packed, new / snapshot / packed.stem))
            except BaseException:
                shutil.rmtree(new)
                raise

    def cleanup_project(self, workflow_snapshot_id: str | int, remote_path: str) -> None:
        """Delete a snapshot's project, and its copies below `local_repository`.

        `UsageError` when the uri is not that of a project of this snapshot. Nothing happens when
        there is none.
        """
        folder = _folder(workflow_snapshot_id)
        if not self._key(remote_path).startswith(f"{folder}/"):
            raise UsageError(
                f"{remote_path!r} is not a project of the snapshot {workflow_snapshot_id}.",
                next_step="Give the snapshot for which it was uploaded.",
            )
        self.delete(remote_path)
        if self._local_repository is not None:
            copies = self._local_repository / folder.rpartition("/")[2]
            with explained(f"The directory {copies}"):
                if copies.exists():
                    shutil.rmtree(copies)

    # --- written once --------------------------------------------------------------------------

    def _keep(self, file: Path, folder: str, progress: Progress | None) -> str:
        source = Source(file)
        key = f"{folder or source.sha256[:2]}/{source.sha256}{source.suffix}"
        count = Counter(source.size, progress)

        def put() -> None:
            # A small file is sent as quickly as it is asked for.
            if source.size <= CHUNK or not self._is_there(key, source.size):
                self._put(key, source, count)

        self._persistently(put)
        count.finish()
        return self._uri(key)

    def _is_there(self, key: str, size: int) -> bool:
        """Whether it is, and whether nobody will take it for one that is needed no more."""
        blob = self._stat(key)
        oldest = self.clock.now_ms() - _FRESH_MS
        return blob is not None and blob.size == size and blob.modified_ms > oldest

    def _fetch(self, blob: Blob, draft: Path, count: Counter) -> str:
        """Write the content of the blob to the draft, and return its SHA-256."""
        digest = hashlib.sha256()
        with draft.open("x+b", buffering=0) as file:

            def fetch(piece: tuple[int, int]) -> tuple[int, int]:
                self._fetch_range(blob.key, *piece, file.fileno(), count)
                return piece

            # What is there is read again, in order, while what follows is under way.
            pieces = ranges(blob.size, self.range_bytes)
            for start, stop in in_parallel(fetch, pieces, self.connections):
                for begin, end in ranges(stop - start, CHUNK):
                    digest.update(os.pread(file.fileno(), end - begin, start + begin))
        count.finish()
        return digest.hexdigest()

    def _fetch_range(self, key: str, start: int, stop: int, file: int, count: Counter) -> None:
        position = start

        def read_on() -> None:
            nonlocal position
            for chunk in self._read(key, position, stop):
                if position + len(chunk) > stop:
                    raise UnavailableError(f"{self._root} sends more than it was asked for.")
                with explained("The directory of the download"):
                    os.pwrite(file, chunk, position)
                position += len(chunk)
                count(len(chunk))
            if position < stop:
                raise UnavailableError(
                    f"{self._root} sent {position - start} of {stop - start} bytes.",
                    next_step="Check the network between here and the store.",
                )

        self._persistently(read_on)

    def _persistently(self, call: Callable[[], T]) -> T:
        """The call's result. It is called again, after a pause that grows, while the store does not
        answer."""
        pause = _FIRST_PAUSE
        for _ in range(self._attempts - 1):
            try:
                return self._once(call)
            except NoRoomError:
                raise
            except UnavailableError:
                # At random, lest all who were refused at once come back at once.
                self.clock.wait(threading.Event(), pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _LONGEST_PAUSE)
        return self._once(call)

    def _once(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except AIFlowError:
            raise
        except Exception as error:
            said = self._explain(error)
            if said is None:
                raise
            raise said from error

    def _uri(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _key(self, uri: str) -> str:
        key = uri.removeprefix(f"{self._root}/")
        if key == uri or not _KEY.fullmatch(key):
            raise UsageError(
                f"{uri!r} is not the uri of a blob under {self._root}.",
                next_step="Check the settings of the blob manager: they are not those with which "
                "the file was uploaded.",
            )
        return key

    def _blob(self, key: str, size: int, modified_ms: int) -> Blob:
        return Blob(key=key, uri=self._uri(key), size=size, modified_ms=modified_ms)

    # --- hooks ---------------------------------------------------------------------------------
    # They raise what their library raises. Keys hold no `.` or `..` and no empty part, and any
    # printable character in their last part.

    @abstractmethod
    def _put(self, key: str, source: Source, count: Counter) -> None:
        """Store the source's content durably under the key, in place of what is there. Readers see
        the old or the new, never a part; nothing is left visible when this is interrupted. Counts
        what has arrived, as far as that can be known before all has."""

    @abstractmethod
    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces of about `CHUNK`."""

    @abstractmethod
    def _stat(self, key: str) -> Blob | None:
        """What is stored under the key; None when there is nothing."""

    @abstractmethod
    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        """All whose keys begin with `prefix` and come after `after`, in the order of the keys. It
        may be generous: others, and what is no blob, are left out by the caller."""

    @abstractmethod
    def _delete(self, key: str) -> None:
        """Remove what is under the key, if there is something."""

    def _explain(self, error: Exception) -> AIFlowError | None:
        """What an exception of the library means; None when it is none of the library's."""
        return of_system(self._root, error) if isinstance(error, OSError) else None


@contextmanager
def packed_project(project_path: str | Path) -> Iterator[Path]:
    """The archive of all that is in a directory, for a while. `UsageError` as `upload_project`."""
    project = Path(project_path)
    if not project.is_dir():
        raise UsageError(f"There is no directory {project}.", next_step="Check the path.")
    with tempfile.TemporaryDirectory(prefix="aiflow-") as directory:
        yield archive.pack(dict(archive.entries_under(project, "")), directory)


def _folder(workflow_snapshot_id: str | int) -> str:
    """Where the projects of a snapshot are kept."""
    check_name("snapshot", str(workflow_snapshot_id))
    return f"projects/{workflow_snapshot_id}"


def _is_listed(key: str, prefix: str, after: str) -> bool:
    return key.startswith(prefix) and key > after and _KEY.fullmatch(key) is not None
