import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdfs import HdfsError

from aiflow_blob_manager_hdfs.blob_manager import HDFSBlobManager
from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    NoRoomError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import (
    AccountsBlobManagerContract,
    Make,
    RemoteBlobManagerContract,
)
from aiflow_core.testing.stores.hadoop import Hadoop, hadoop
from aiflow_core.testing.stores.webhdfs import SUPERUSER, webhdfs_server


class HDFSContract(RemoteBlobManagerContract):
    """The contract against the WebHDFS at the address `url`, whose superuser is `user`."""

    foreign_uri = "file:///etc/passwd"

    @pytest.fixture
    def place(self) -> str:
        return f"/aiflow/{uuid.uuid4().hex}"

    @pytest.fixture
    def make(self, url: str, user: str, place: str) -> Make:
        return lambda root: HDFSBlobManager(url, f"{place}/{root}", hdfs_user=user)

    @pytest.fixture
    def read_only(self, url: str, place: str) -> BlobManager:
        return HDFSBlobManager(url, f"{place}/root", hdfs_user="bob")

    @pytest.fixture
    def unreachable(self) -> BlobManager:
        return HDFSBlobManager("http://127.0.0.1:9", "/aiflow", hdfs_user="bob")


@pytest.fixture(scope="module")
def webhdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with webhdfs_server(tmp_path_factory.mktemp("hdfs")) as url:
        yield url


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    with hadoop(tmp_path_factory.mktemp("hadoop")) as real:
        yield real


@pytest.mark.integration
class TestOnHadoop(HDFSContract):
    """Without Kerberos a name node asks for no proof, so no credentials are wrong."""

    @pytest.fixture
    def url(self, real: Hadoop) -> str:
        return real.url

    @pytest.fixture
    def user(self, real: Hadoop) -> str:
        return real.superuser


class TestHDFSBlobManager(HDFSContract, AccountsBlobManagerContract):
    secret = "not-a-token-at-all"

    @pytest.fixture
    def with_wrong_credentials(self, url: str) -> BlobManager:
        return HDFSBlobManager(url, "/aiflow", token=self.secret)

    @pytest.fixture
    def url(self, webhdfs: str) -> str:
        return webhdfs

    @pytest.fixture
    def user(self) -> str:
        return SUPERUSER

    def test_the_active_one_of_several_name_nodes_is_found(
        self, url: str, user: str, file: Path
    ) -> None:
        blobs = HDFSBlobManager(f"http://127.0.0.1:9;{url}", "/several", hdfs_user=user)

        assert blobs.upload(file).startswith("hdfs:///several/")

    def test_what_httpfs_cannot_replace_is_deleted_first(
        self, make: Make, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobs = make("root")
        assert isinstance(blobs, HDFSBlobManager)
        rename = blobs._client._rename
        monkeypatch.setattr(
            blobs._client,
            "_rename",
            lambda path, destination, renameoptions: rename(path, destination=destination),
        )
        blobs.upload(file)

        assert blobs.download(blobs.upload(file), tmp_path / "d").read_bytes() == file.read_bytes()
        assert len(list(blobs.list_blobs())) == 1

    def test_drafts_of_writers_that_died_are_removed_a_day_later(
        self, make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dying, later = make("root"), make("root")
        assert isinstance(dying, HDFSBlobManager)
        assert isinstance(later, HDFSBlobManager)
        monkeypatch.setattr(dying, "_delete", lambda path: None)
        monkeypatch.setattr(dying, "_publish", lambda draft, key: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dying.upload(file)
        make("root").upload(file)
        assert len(list(later._entries(".drafts/"))) == 1

        now = later.clock.now_ms()
        monkeypatch.setattr(later, "clock", _At(now + 25 * 3_600_000))
        later.upload(file)
        assert not list(later._entries(".drafts/"))


class _At:
    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms


def test_a_token_is_not_in_what_is_said_of_an_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    blobs = HDFSBlobManager("http://127.0.0.1:9", "/tmp", token="a secret/token+", attempts=1)
    with pytest.raises(UnavailableError) as caught:
        list(blobs.list_blobs())

    assert "delegation=***" in str(caught.value)
    for said in (str(caught.value), repr(blobs), caplog.text):
        assert "secret" not in said


def test_a_root_that_is_not_absolute_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not absolute"):
        HDFSBlobManager("http://127.0.0.1:9", "tmp")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DSQuotaExceededException", NoRoomError),
        ("SafeModeException", UnavailableError),
        ("StandbyException", UnavailableError),
        ("AuthenticationException", CredentialsError),
    ],
)
def test_what_the_name_node_answers_is_explained(name: str, expected: type[AIFlowError]) -> None:
    blobs = HDFSBlobManager("http://127.0.0.1:9", "/tmp", hdfs_user="bob")
    error = blobs._explain(HdfsError("It says so.", exception=name))

    assert type(error) is expected
    assert error.next_step
