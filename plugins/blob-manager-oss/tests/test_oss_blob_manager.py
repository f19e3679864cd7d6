import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiflow_blob_manager_oss.blob_manager import OssBlobManager
from aiflow_core.errors import ConfigError, CredentialsError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import BucketBlobManagerContract, Make, QuickClock
from aiflow_core.testing.stores.oss import BUCKET, OssServer, oss_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssServer]:
    with oss_server(tmp_path_factory.mktemp("oss")) as server:
        yield server


@pytest.fixture
def make(server: OssServer) -> Make:
    """Managers of the one bucket, with a directory for each test, and small parts."""
    place = uuid.uuid4().hex

    def make(root: str) -> OssBlobManager:
        blobs = OssBlobManager(**server.settings(root_directory=f"{place}/{root}"))
        blobs.part_bytes = 2**20
        return blobs

    return make


class TestOssBlobManager(BucketBlobManagerContract):
    foreign_uri = f"oss://{BUCKET}-2/00/{'0' * 64}"
    secret = "not-the-right-one"

    @pytest.fixture
    def make(self, make: Make) -> Make:
        return make

    @pytest.fixture
    def with_wrong_credentials(self, server: OssServer) -> BlobManager:
        return OssBlobManager(**server.settings(access_key_secret=self.secret))

    @pytest.fixture
    def without_bucket(self, server: OssServer) -> BlobManager:
        return OssBlobManager(**server.settings(bucket="nobody-made-it"))

    @pytest.fixture
    def read_only(self, server: OssServer, blobs: BlobManager) -> BlobManager:
        root = repr(blobs).partition(f"{BUCKET}/")[2].rstrip(">")
        return OssBlobManager(**server.settings("reader", root_directory=root))

    @pytest.fixture
    def unreachable(self, server: OssServer) -> BlobManager:
        return OssBlobManager(**server.settings(endpoint="http://127.0.0.1:9"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(250)) * 10_000)  # 2.5 MB, three parts
    return path


def test_an_interrupted_upload_is_gone_on_with_by_another_manager(
    make: Make, file: Path, tmp_path: Path
) -> None:
    blobs, other = make("root"), make("root")
    assert isinstance(blobs, OssBlobManager)
    assert isinstance(other, OssBlobManager)
    put, put_by_other, sent = blobs._put_part, other._put_part, []

    def dies(key: str, upload: str, number: int, content: bytes) -> str:
        if number == 3:
            raise KeyboardInterrupt
        return put(key, upload, number, content)

    def counts(key: str, upload: str, number: int, content: bytes) -> str:
        sent.append(number)
        return put_by_other(key, upload, number, content)

    blobs.connections, blobs._put_part = 1, dies  # type: ignore[method-assign]
    other._put_part = counts  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        blobs.upload(file)
    uri = other.upload(file)

    assert sent == [3]
    assert other.download(uri, tmp_path / "d").read_bytes() == file.read_bytes()


def test_an_upload_that_somebody_else_ended_begins_anew(
    make: Make, file: Path, tmp_path: Path
) -> None:
    blobs = make("root")
    assert isinstance(blobs, OssBlobManager)
    blobs.clock = QuickClock()
    finish = blobs._finish

    def too_late(key: str, upload: str, tags: Any) -> None:
        blobs._finish = finish  # type: ignore[method-assign]
        blobs._abort(key, upload)
        finish(key, upload, tags)

    blobs._finish = too_late  # type: ignore[method-assign]

    assert blobs.download(blobs.upload(file), tmp_path / "d").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("region", [None, "cn-hangzhou"], ids=["version 1", "version 4"])
def test_both_versions_of_signatures_are_spoken(
    server: OssServer, file: Path, tmp_path: Path, region: str | None
) -> None:
    blobs = OssBlobManager(**server.settings(region=region, root_directory="目录/a b+%~"))
    blobs.part_bytes = 2**20
    uri = blobs.upload(file)

    assert blobs.download(uri, tmp_path / "d").read_bytes() == file.read_bytes()
    assert [blob.uri for blob in blobs.list_blobs()] == [uri]
    blobs.delete(uri)


@pytest.mark.parametrize("region", [None, "cn-hangzhou"], ids=["version 1", "version 4"])
def test_credentials_come_from_the_environment(
    server: OssServer, file: Path, monkeypatch: pytest.MonkeyPatch, region: str | None
) -> None:
    settings = server.settings(region=region)
    blobs = OssBlobManager(**{**settings, "access_key_id": None, "access_key_secret": None})
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(CredentialsError, match="there are none"):
        blobs.upload(file)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", settings["access_key_id"])
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", settings["access_key_secret"])
    assert blobs.upload(file).startswith(f"oss://{BUCKET}/")


@pytest.mark.parametrize(
    "wrong",
    [{"addressing_style": "sideways"}, {"bucket": "NOT_A_NAME"}, {"access_key_id": "only this"}],
    ids=str,
)
def test_settings_that_make_no_sense_are_said_to_be_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be made of its settings") as caught:
        OssBlobManager(**{"bucket": "b-1-2-3", "endpoint": "oss.example", **wrong})
    assert caught.value.next_step
