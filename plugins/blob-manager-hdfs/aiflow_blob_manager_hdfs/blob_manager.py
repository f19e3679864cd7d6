"""A blob manager whose store is HDFS, spoken to by WebHDFS."""

import logging
from collections.abc import Iterable, Iterator
from posixpath import dirname
from urllib.parse import quote, quote_plus

import requests
from hdfs import HdfsError, InsecureClient
from hdfs.client import TokenClient

from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    NoRoomError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import Blob
from aiflow_core.specs.blob_transfer import CHUNK, Counter, Source
from aiflow_core.specs.blob_tree import Entry, TreeBlobManager

_WRONG_CREDENTIALS = {"AuthenticationException", "InvalidToken", "SecurityException"}
_FULL = {"DSQuotaExceededException", "NSQuotaExceededException", "QuotaExceededException"}


class HDFSBlobManager(TreeBlobManager):
    """A uri is `hdfs://<root directory>/<key>`.

    Args:
        hdfs_url: address of WebHDFS at the name node, as `http://hadoop-dfs:9870`; several, one of
            which is active, are separated by semicolons.
        root_directory: absolute path of the directory; made when missing.
        hdfs_user: as whom to act where the cluster asks for no proof.
        token: a delegation token, for a cluster that does.
        verify: whether, or with which file, to check the certificate of the name node.
        timeout: seconds after which a connection, or a silence in it, is given up.
        connections: how many pieces of a large file are read at once.
        attempts, local_repository: as of every blob manager.
    """

    def __init__(
        self,
        hdfs_url: str,
        root_directory: str,
        hdfs_user: str | None = None,
        token: str | None = None,
        verify: bool | str = True,
        timeout: float = 60,
        connections: int = 4,
        attempts: int = 5,
        local_repository: str | None = None,
    ) -> None:
        if not root_directory.startswith("/"):
            raise ConfigError(
                f"root_directory {root_directory!r} of the blob manager 'hdfs' is not absolute.",
                next_step="Begin it with a slash.",
            )
        self._directory = root_directory.rstrip("/")
        super().__init__(
            f"hdfs://{self._directory}", attempts=attempts, local_repository=local_repository
        )
        self.connections = connections
        self._url = hdfs_url
        self._mask = _Mask(token)
        session = requests.Session()
        session.verify = verify
        if token:
            # WebHDFS takes it in the address only, and the HTTP library logs addresses.
            logging.getLogger("urllib3.connectionpool").addFilter(self._mask)
            self._client = TokenClient(hdfs_url, token, session=session, timeout=timeout)
        else:
            self._client = InsecureClient(hdfs_url, hdfs_user, session=session, timeout=timeout)
        # Paths are taken as they are: the library gives a meaning to `#LATEST` in them.
        self._client.resolve = str

    def _write(self, path: str, source: Source, count: Counter) -> None:
        def counted() -> Iterator[bytes]:
            for chunk in source.chunks():
                yield chunk
                count(len(chunk))

        self._client.write(self._path(path), data=counted())

    def _publish(self, draft: str, key: str) -> None:
        target = self._path(key)
        if self._renamed(draft, target):
            return
        # Either the directory is missing, or this is HttpFS, which does not know how to replace.
        self._client.makedirs(dirname(target))
        if self._renamed(draft, target):
            return
        self._client.delete(target)
        if not self._renamed(draft, target):
            raise UnavailableError(
                f"{self._root} does not rename {draft} to {key}.",
                next_step="Look into the log of the name node.",
            )

    def _renamed(self, draft: str, target: str) -> bool:
        try:
            answer = self._client._rename(
                self._path(draft), destination=target, renameoptions="OVERWRITE"
            )
        except HdfsError as error:
            if error.exception != "FileNotFoundException":
                raise
            return False
        return not answer.content or bool(answer.json()["boolean"])

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        reader = self._client.read(
            self._path(key), offset=start, length=stop - start, chunk_size=CHUNK
        )
        with reader as chunks:
            yield from chunks

    def _stat(self, key: str) -> Blob | None:
        try:
            found = self._client.status(self._path(key))
        except HdfsError as error:
            if error.exception != "FileNotFoundException":
                raise
            return None
        return self._blob(key, found["length"], found["modificationTime"])

    def _entries(self, folder: str) -> Iterable[Entry]:
        try:
            found = self._client.list(self._path(folder), status=True)
        except HdfsError as error:
            if error.exception != "FileNotFoundException":
                raise
            return
        for name, status in found:
            yield Entry(
                name, status["type"] == "DIRECTORY", status["length"], status["modificationTime"]
            )

    def _delete(self, key: str) -> None:
        self._client.delete(self._path(key))

    def _path(self, path: str) -> str:
        return f"{self._directory}/{path}".rstrip("/")

    def _explain(self, error: Exception) -> AIFlowError | None:
        if isinstance(error, OSError):  # all that `requests` raises is one
            return UnavailableError(
                f"WebHDFS at {self._url} does not answer: {self._said(error)}.",
                next_step="Check hdfs_url, the ports of the data nodes, and the network.",
            )
        if not isinstance(error, HdfsError):
            return None
        said, name = self._said(error), error.exception or ""
        if name in _WRONG_CREDENTIALS or "401" in said or "Authentication required" in said:
            return CredentialsError(
                f"WebHDFS at {self._url}",
                said,
                next_step="Check token and hdfs_user; a token may have expired.",
            )
        if name == "AccessControlException":
            return PermissionDeniedError(
                self._root,
                said,
                next_step="Give hdfs_user the right to write to root_directory.",
            )
        if name == "FileNotFoundException":
            return NotFoundError("blob", said, next_step="It was deleted meanwhile.")
        if name in _FULL:
            return NoRoomError(
                f"{self._root} has no room left: {said}.", next_step="Raise the quota, or delete."
            )
        return UnavailableError(
            f"WebHDFS at {self._url} cannot do it now: {name} {said}.",
            next_step="Look into the log of the name node.",
        )

    def _said(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return self._mask(lines[0].rstrip("."))


class _Mask(logging.Filter):
    """Replaces a secret, as it is and as it stands in an address."""

    def __init__(self, secret: str | None) -> None:
        super().__init__()
        self._secrets = {secret, quote(secret), quote_plus(secret)} if secret else set()

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self(record.getMessage()), None
        return True
