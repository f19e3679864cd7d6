import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from aiflow_blob_manager_fsspec.blob_manager import FsspecBlobManager
from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import (
    AccountsBlobManagerContract,
    BlobManagerContract,
    Make,
    QuickClock,
)
from aiflow_core.testing.stores.sftp import SftpServer, sftp_server


class TestInMemory(BlobManagerContract):
    holds_content = True

    @pytest.fixture
    def make(self) -> Make:
        place = uuid.uuid4().hex
        return lambda root: FsspecBlobManager("memory", f"/{place}/{root}")


class ObjectStore(MemoryFileSystem):
    """What is written is there when it is committed, as in the file systems of object stores."""

    store: dict[str, Any] = {}
    pseudo_dirs: list[str] = [""]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb" and options.get("autocommit") is False:
            return MemoryFile(self, self._strip_protocol(path))
        return super()._open(path, mode, **options)


class TestInAnObjectStore(BlobManagerContract):
    holds_content = True

    @pytest.fixture
    def make(self, monkeypatch: pytest.MonkeyPatch) -> Make:
        place = uuid.uuid4().hex
        monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: ObjectStore)
        return lambda root: FsspecBlobManager("gcs", f"bucket/{place}/{root}")


class TestOnDisk(BlobManagerContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda root: FsspecBlobManager("file", str(tmp_path / "store" / root))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with sftp_server(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.mark.integration
class TestBySftp(AccountsBlobManagerContract):
    secret = "not-the-right-one"

    @pytest.fixture
    def place(self) -> str:
        return f"/{uuid.uuid4().hex}"

    @pytest.fixture
    def make(self, server: SftpServer, place: str) -> Make:
        settings = server.settings()
        return lambda root: FsspecBlobManager("sftp", f"{place}/{root}", settings)

    @pytest.fixture
    def with_wrong_credentials(self, server: SftpServer) -> BlobManager:
        return FsspecBlobManager("sftp", "/", server.settings(password=self.secret))

    @pytest.fixture
    def read_only(self, server: SftpServer, place: str) -> BlobManager:
        return FsspecBlobManager("sftp", f"{place}/root", server.settings("reader"))

    @pytest.fixture
    def unreachable(self, server: SftpServer) -> BlobManager:
        return FsspecBlobManager("sftp", "/", server.settings(port=9))


def test_a_connection_that_was_lost_is_made_anew(server: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    blobs = FsspecBlobManager("sftp", f"/{uuid.uuid4().hex}", server.settings())
    blobs.clock = QuickClock()
    uri = blobs.upload(tmp_path / "file")
    blobs._files.client.close()

    assert blobs.download(uri, tmp_path / "d").read_text() == "content"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ({"mtime": 1.5}, 1500),
        ({"LastModified": datetime.fromtimestamp(2, UTC)}, 2000),
        ({"updated": "1970-01-01T00:00:03.000Z"}, 3000),
        ({}, None),
    ],
    ids=str,
)
def test_the_time_is_found_where_the_file_system_puts_it(
    moment: dict[str, Any], expected: int | None
) -> None:
    blobs = FsspecBlobManager("memory", "/")
    now = blobs.clock.now_ms()

    assert blobs._modified_ms(moment) == expected or blobs._modified_ms(moment) >= now


def test_a_protocol_that_nobody_speaks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no protocol 'sftpp'\. Did you mean 'sftp'"):
        FsspecBlobManager("sftpp", "/")


def test_options_that_the_file_system_does_not_take_are_refused(tmp_path: Path) -> None:
    blobs = FsspecBlobManager("sftp", "/", {"no_host": "there"})

    with pytest.raises(ConfigError, match="storage_options of 'sftp' are wrong"):
        list(blobs.list_blobs())


class SomebodysCredentialError(Exception):
    pass


class SomebodysError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("no"), PermissionDeniedError),
        (FileNotFoundError("no"), NotFoundError),
        (ConnectionResetError("no"), UnavailableError),
        (OSError("no"), UnavailableError),
        (EOFError(), UnavailableError),
        (SomebodysCredentialError("no"), CredentialsError),
        (SomebodysError("no"), UnavailableError),
        (TypeError("a bug"), None),
    ],
    ids=repr,
)
def test_what_a_file_system_raises_is_explained(
    error: Exception, expected: type[AIFlowError] | None
) -> None:
    explained = FsspecBlobManager("memory", "/")._explain(error)

    assert type(explained) is (expected or type(None))
    assert explained is None or explained.next_step
