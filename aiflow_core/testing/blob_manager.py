"""The contract suite of blob managers, and one that keeps everything in memory."""

import hashlib
import uuid
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiflow_core.errors import NotFoundError, UsageError
from aiflow_core.specs.blob_manager import BlobManager


class MemoryBlobManager(BlobManager):
    """Keeps files in memory; a uri is `memory:<sha256><suffix>`."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def upload(self, local_file_path: str | Path) -> str:
        path = Path(local_file_path)
        if not path.is_file():
            raise NotFoundError("file", path)
        content = path.read_bytes()
        uri = f"memory:{hashlib.sha256(content).hexdigest()}{path.suffix}"
        self._blobs[uri] = content
        return uri

    def download(self, remote_file_path: str, local_dir: str | Path) -> Path:
        self._check(remote_file_path)
        if remote_file_path not in self._blobs:
            raise NotFoundError("blob", remote_file_path)
        directory = Path(local_dir)
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / remote_file_path.removeprefix("memory:")
        draft = directory / f".{uuid.uuid4().hex}"
        draft.write_bytes(self._blobs[remote_file_path])
        return draft.rename(target)

    def delete(self, remote_file_path: str) -> None:
        self._check(remote_file_path)
        self._blobs.pop(remote_file_path, None)

    def _check(self, uri: str) -> None:
        if not uri.startswith("memory:"):
            raise UsageError(f"{uri!r} is not the uri of a blob in memory.")


class BlobManagerContract(ABC):
    """What every blob manager must do. Subclass it as `Test...` and make one in `blobs`."""

    foreign_uri = "elsewhere://bucket/file"

    @pytest.fixture
    @abstractmethod
    def blobs(self, tmp_path: Path) -> BlobManager:
        """A blob manager that holds nothing yet."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "flow.zip"
        path.write_bytes(b"content" * 1000)
        return path

    def test_a_file_comes_back_as_it_went_in(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        downloaded = blobs.download(uri, tmp_path / "new" / "directory")

        assert downloaded.parent == tmp_path / "new" / "directory"
        assert downloaded.read_bytes() == file.read_bytes() == b"content" * 1000
        assert downloaded.suffix == ".zip"
        assert list(downloaded.parent.iterdir()) == [downloaded], "nothing else is left there"

    def test_an_empty_file_is_a_file(self, blobs: BlobManager, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()

        assert blobs.download(blobs.upload(tmp_path / "empty"), tmp_path / "d").read_bytes() == b""

    def test_the_same_content_is_the_same_uri(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        same, other = tmp_path / "same.zip", tmp_path / "other.zip"
        same.write_bytes(file.read_bytes())
        other.write_bytes(b"something else")

        assert blobs.upload(file) == blobs.upload(file) == blobs.upload(same)
        assert blobs.upload(other) != blobs.upload(file)

    def test_downloading_again_replaces_the_file(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        blobs.download(uri, tmp_path / "d").write_bytes(b"damaged")

        assert blobs.download(uri, tmp_path / "d").read_bytes() == file.read_bytes()

    def test_what_is_deleted_is_not_found(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        blobs.delete(uri)
        blobs.delete(uri)

        with pytest.raises(NotFoundError):
            blobs.download(uri, tmp_path / "d")

    def test_what_was_deleted_can_be_uploaded_again(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        blobs.delete(blobs.upload(file))

        assert blobs.download(blobs.upload(file), tmp_path / "d").is_file()

    def test_a_local_file_that_is_missing_is_not_found(
        self, blobs: BlobManager, tmp_path: Path
    ) -> None:
        with pytest.raises(NotFoundError):
            blobs.upload(tmp_path / "missing")

    def test_a_uri_that_it_did_not_make_is_refused(
        self, blobs: BlobManager, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError):
            blobs.download(self.foreign_uri, tmp_path / "d")
        with pytest.raises(UsageError):
            blobs.delete(self.foreign_uri)

    def test_many_threads_may_use_it_at_once(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        def there_and_back(number: int) -> bytes:
            return blobs.download(blobs.upload(file), tmp_path / str(number % 2)).read_bytes()

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(there_and_back, range(40))) == {file.read_bytes()}
