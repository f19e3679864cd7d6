"""Stores behind a network, stores that ask for proof of who one is, stores with buckets."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest

from aiflow_core.errors import (
    AIFlowError,
    CredentialsError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blobs.base import BlobContract, QuickClock, inside

NOWHERE = f"00/{'0' * 64}.zip"


def calls(blobs: BlobManager, file: Path) -> dict[str, Callable[[], object]]:
    """Each thing that can be asked of a store."""
    uri = blobs._uri(NOWHERE)
    return {
        "upload": lambda: blobs.upload(file),
        "download": lambda: blobs.download(uri, file.parent / "d"),
        "list": lambda: list(blobs.list_blobs()),
        "delete": lambda: blobs.delete(uri),
    }


def refused(blobs: BlobManager, file: Path, call: str, error: type[AIFlowError]) -> AIFlowError:
    """What is raised, which must say what to do."""
    blobs.clock = QuickClock()
    with pytest.raises(error) as caught:
        calls(blobs, file)[call]()
    assert caught.value.next_step
    assert not inside(file.parent / "d")
    return caught.value


class RemoteContract(BlobContract):
    @pytest.fixture
    @abstractmethod
    def read_only(self) -> BlobManager:
        """A manager that may look at what `root` holds, and may not store or delete."""

    @pytest.fixture
    @abstractmethod
    def unreachable(self) -> BlobManager:
        """A manager of a store at which nobody answers."""

    @pytest.mark.parametrize("call", ["upload", "delete"])
    def test_what_is_not_permitted_is_said_to_be(
        self, blobs: BlobManager, read_only: BlobManager, file: Path, tmp_path: Path, call: str
    ) -> None:
        uri = blobs.upload(file)
        read_only.clock = QuickClock()
        ways: dict[str, Callable[[], object]] = {
            "upload": lambda: read_only.upload(file),
            "delete": lambda: read_only.delete(uri),
        }

        with pytest.raises(PermissionDeniedError) as caught:
            ways[call]()
        assert caught.value.next_step
        assert read_only.download(uri, tmp_path / "d").is_file()
        assert [blob.uri for blob in read_only.list_blobs()] == [uri]

    @pytest.mark.parametrize("call", ["upload", "download", "list", "delete"])
    def test_a_store_at_which_nobody_answers_is_said_to_be_away(
        self, unreachable: BlobManager, file: Path, call: str
    ) -> None:
        unreachable.clock = clock = QuickClock()
        with pytest.raises(UnavailableError) as caught:
            calls(unreachable, file)[call]()

        assert caught.value.next_step
        assert len(clock.pauses) == 4


class AccountsContract(BlobContract):
    secret = ""
    """What the wrong credentials hold; it must appear nowhere."""

    @pytest.fixture
    @abstractmethod
    def with_wrong_credentials(self) -> BlobManager:
        """A manager whom the store does not believe; `secret` is what it brings."""

    @pytest.mark.parametrize("call", ["upload", "download", "list", "delete"])
    def test_wrong_credentials_are_said_to_be_wrong(
        self,
        with_wrong_credentials: BlobManager,
        file: Path,
        call: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        error = refused(with_wrong_credentials, file, call, CredentialsError)

        for said in (str(error), repr(with_wrong_credentials), caplog.text):
            assert not self.secret or self.secret not in said


class BucketContract(BlobContract):
    @pytest.fixture
    @abstractmethod
    def without_bucket(self) -> BlobManager:
        """A manager of a bucket, or what else the store calls it, that does not exist."""

    @pytest.mark.parametrize("call", ["upload", "download", "list", "delete"])
    def test_a_bucket_that_does_not_exist_is_said_to_be_missing(
        self, without_bucket: BlobManager, file: Path, call: str
    ) -> None:
        error = refused(without_bucket, file, call, NotFoundError)

        assert isinstance(error, NotFoundError)
        assert error.kind != "blob"
