import functools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest

from aiflow_blob_manager_s3.blob_manager import S3BlobManager
from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.blob_transfer import Source
from aiflow_core.testing.blob_manager import BucketBlobManagerContract, Make, QuickClock
from aiflow_core.testing.stores.s3 import BUCKET, S3Server, s3_server
from aiflow_core.testing.stores.swift import swift_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def _sdk_reads_its_data_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session, "Session", functools.cache(boto3.session.Session))
        yield


@pytest.fixture
def make(server: S3Server) -> Make:
    """Managers of the one bucket, with a directory for each test, and the smallest parts."""
    return managers(server)


def managers(server: S3Server) -> Make:
    place = uuid.uuid4().hex

    def make(root: str) -> S3BlobManager:
        blobs = S3BlobManager(**server.settings(root_directory=f"{place}/{root}"))
        blobs.part_bytes = 5 * 2**20
        return blobs

    return make


class S3Contract(BucketBlobManagerContract):
    """The contract against the fixture `server`."""

    foreign_uri = f"s3://{BUCKET}-2/00/{'0' * 64}"
    secret = "not-the-right-one"

    @pytest.fixture
    def make(self, server: S3Server) -> Make:
        return managers(server)

    @pytest.fixture
    def with_wrong_credentials(self, server: S3Server) -> BlobManager:
        return S3BlobManager(**server.settings(secret_access_key=self.secret))

    @pytest.fixture
    def without_bucket(self, server: S3Server) -> BlobManager:
        return S3BlobManager(**server.settings(bucket_name="nobody-made-it"))

    @pytest.fixture
    def read_only(self, server: S3Server, blobs: BlobManager) -> BlobManager:
        root = repr(blobs).partition(f"{BUCKET}/")[2].rstrip(">")
        return S3BlobManager(**server.settings(root_directory=root, **server.reader))

    @pytest.fixture
    def unreachable(self, server: S3Server) -> BlobManager:
        return S3BlobManager(**server.settings(endpoint_url="http://127.0.0.1:9"))


class TestS3BlobManager(S3Contract):
    """Against moto, which is quick."""


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with swift_server(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.mark.integration
class TestOnSwift(S3Contract):
    """Against an object store that others wrote and run."""

    @pytest.fixture
    def server(self, swift: S3Server) -> S3Server:
        return swift


class Sent:
    """Counts what is asked of the store, by operation."""

    def __init__(self, blobs: S3BlobManager) -> None:
        self.operations: list[str] = []
        blobs._client.meta.events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.operations.append(model.name)

    def count(self, operation: str) -> int:
        return self.operations.count(operation)


def interrupted(blobs: S3BlobManager, file: Path) -> None:
    """Upload all parts but the last one."""
    put, blobs.connections = blobs._put_part, 1

    def dies(key: str, upload: str, number: int, content: bytes) -> str:
        if number == 3:
            raise KeyboardInterrupt
        return put(key, upload, number, content)

    blobs._put_part = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        blobs.upload(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(250)) * 50_000)  # 12.5 MB, three parts
    return path


def manager(make: Make) -> S3BlobManager:
    made = make("root")
    assert isinstance(made, S3BlobManager)
    return made


def test_an_interrupted_upload_is_gone_on_with_by_another_manager(
    make: Make, file: Path, tmp_path: Path
) -> None:
    interrupted(manager(make), file)
    other = manager(make)
    sent = Sent(other)
    uri = other.upload(file)

    assert sent.count("UploadPart") == 1
    assert sent.count("CreateMultipartUpload") == 0
    assert other.download(uri, tmp_path / "d").read_bytes() == file.read_bytes()


def test_a_part_that_is_not_what_it_should_be_is_sent_again(make: Make, file: Path) -> None:
    blobs = manager(make)
    interrupted(blobs, file)
    sha256 = Source(file).sha256
    key = f"{sha256[:2]}/{sha256}.bin"
    other = manager(make)
    other._put_part(key, other._unfinished(key), 2, b"?" * other.part_bytes)
    sent = Sent(other)
    other.upload(file)

    assert sent.count("UploadPart") == 2


def test_an_upload_that_somebody_else_ended_begins_anew(
    make: Make, file: Path, tmp_path: Path
) -> None:
    blobs = manager(make)
    blobs.clock = QuickClock()
    finish = blobs._finish

    def too_late(key: str, upload: str, tags: Any) -> None:
        blobs._finish = finish  # type: ignore[method-assign]
        blobs._abort(key, upload)
        finish(key, upload, tags)

    blobs._finish = too_late  # type: ignore[method-assign]

    assert blobs.download(blobs.upload(file), tmp_path / "d").read_bytes() == file.read_bytes()


def test_a_large_file_that_is_there_is_not_sent_again(make: Make, file: Path) -> None:
    blobs = manager(make)
    blobs.upload(file)
    sent = Sent(blobs)
    blobs.upload(file)

    assert sent.operations == ["HeadObject"]


def test_a_large_file_that_is_old_is_sent_again_so_that_nobody_cleans_it_up(
    make: Make, file: Path
) -> None:
    blobs = manager(make)
    blobs.upload(file)
    clock = QuickClock()
    now = clock.now_ms()
    clock.now_ms = lambda: now + 2 * 3_600_000  # type: ignore[method-assign]
    blobs.clock = clock
    sent = Sent(blobs)
    blobs.upload(file)

    assert sent.count("UploadPart") == 3


def test_credentials_come_from_where_the_sdk_looks(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = server.settings()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.pop("access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.pop("secret_access_key"))
    monkeypatch.setattr(boto3.session, "Session", boto3.session.Session.__wrapped__)
    (tmp_path / "file").write_text("content")

    assert S3BlobManager(**settings).upload(tmp_path / "file").startswith(f"s3://{BUCKET}/")


def test_that_there_are_no_credentials_is_said(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {k: v for k, v in server.settings().items() if "access_key" not in k}
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3.session, "Session", boto3.session.Session.__wrapped__)

    with pytest.raises(CredentialsError, match="Unable to locate credentials"):
        list(S3BlobManager(**settings).list_blobs())


@pytest.mark.parametrize(
    "wrong",
    [
        {"config": {"no_such_argument": 1}},
        {"endpoint_url": "not an address"},
        {"profile_name": "nobody-wrote-it"},
        {"access_key_id": "only this"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_said_to_be_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be made of its settings") as caught:
        S3BlobManager(**{"bucket_name": "b", "region_name": "us-east-1", **wrong})
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SlowDown", 503, UnavailableError),
        ("InternalError", 500, UnavailableError),
        ("Whatever", 502, UnavailableError),
        ("ExpiredToken", 400, CredentialsError),
        ("AllAccessDisabled", 403, PermissionDeniedError),
        ("InvalidRequest", 400, AIFlowError),
    ],
)
def test_what_the_store_answers_is_explained(
    code: str, status: int, expected: type[AIFlowError]
) -> None:
    blobs = S3BlobManager("b", region_name="us-east-1")
    answer = {
        "Error": {"Code": code, "Message": "It says so."},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    error = blobs._explain(botocore.exceptions.ClientError(answer, "PutObject"))

    assert type(error) is expected
    assert error.next_step
