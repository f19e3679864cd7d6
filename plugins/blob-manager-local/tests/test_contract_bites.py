"""The contract suite finds out blob managers that do not keep their promises: each of these breaks
one, and is caught by the test that is named beside it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.errors import NotFoundError
from aiflow_core.specs.blob_manager import Blob, BlobManager
from aiflow_core.specs.blob_transfer import Counter, Source
from aiflow_core.testing.blob_manager import (
    BucketBlobManagerContract,
    MemoryBlobManager,
    MemoryStorage,
)

pytest_plugins = ["pytester"]


class NamesByFileName(MemoryBlobManager):
    """As 0.4 did: two files of one name are one."""

    def _keep(self, file: Path, folder: str, progress: Any) -> str:
        source = Source(file)
        key = f"00/{'0' * 64}.{file.name}"
        self._put(key, source, Counter(source.size, progress))
        return self._uri(key)


class DoesNotVerify(MemoryBlobManager):
    def _fetch(self, blob: Blob, draft: Path, count: Counter) -> str:
        super()._fetch(blob, draft, count)
        return blob.key.rpartition("/")[2][:64]


class WritesInPlace(MemoryBlobManager):
    def _put(self, key: str, source: Source, count: Counter) -> None:
        content = b""
        for chunk in source.chunks():
            content += chunk
            self._storage.objects[self._uri(key)] = content, self.clock.now_ms()


class DownloadsInPlace(MemoryBlobManager):
    def download(self, remote_file_path: str, local_dir: str | Path, progress: Any = None) -> Path:
        target = Path(local_dir) / remote_file_path.rpartition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in self._read(self._key(remote_file_path), 0, 2**40):
                file.write(chunk)
        return target


class GivesUpAtOnce(MemoryBlobManager):
    def _persistently(self, call: Any) -> Any:
        return self._once(call)


class InsistsOnWhatIsWrong(MemoryBlobManager):
    def _once(self, call: Any) -> Any:
        try:
            return call()
        except Exception:
            self.clock.wait(None, 0.1)  # type: ignore[arg-type]
            return call()


class BeginsAgainFromTheStart(MemoryBlobManager):
    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        return super()._read(key, 0, stop)


class ReadsAllAtOnce(MemoryBlobManager):
    def _put(self, key: str, source: Source, count: Counter) -> None:
        content = [source.read(0, source.size) for _ in range(4)]
        super()._put(key, source, count)
        content.clear()


class ListsOtherRoots(MemoryBlobManager):
    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        for uri, (content, modified_ms) in sorted(self._storage.objects.items()):
            key = "/".join(uri.split("/")[-2:])
            yield Blob(key=key, uri=uri, size=len(content), modified_ms=modified_ms)


class ListsTheFirstPageOnly(MemoryBlobManager):
    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        for _, blob in zip(range(100), super()._list(prefix, after), strict=False):
            yield blob


class TakesAnyUri(MemoryBlobManager):
    def _key(self, uri: str) -> str:
        return uri.removeprefix(f"{self._root}/")


class SharesProjects(MemoryBlobManager):
    """Cleaning up takes what another snapshot needs."""

    def upload_project(self, workflow_snapshot_id: str | int, project_path: str | Path) -> str:
        return super().upload_project("shared", project_path)

    def cleanup_project(self, workflow_snapshot_id: str | int, remote_path: str) -> None:
        self.delete(remote_path)


class TrustsArchives(MemoryBlobManager):
    def download_project(
        self,
        workflow_snapshot_id: str | int,
        remote_path: str,
        local_path: str | Path | None = None,
    ) -> str:
        import zipfile

        place = Path(local_path or "")
        with zipfile.ZipFile(self.download(remote_path, place)) as packed:
            for name in packed.namelist():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(packed.read(name))
        return str(place)


class TellsItsSecret(MemoryBlobManager):
    def __repr__(self) -> str:
        return f"MemoryBlobManager(secret={self._secret!r})"


class TakesAMissingBucketForAMissingFile(MemoryBlobManager):
    def _stat(self, key: str) -> Blob | None:
        return super()._stat(key) if self._storage.exists else None


class DeletesOnlyOnce(MemoryBlobManager):
    def _delete(self, key: str) -> None:
        if self._uri(key) not in self._objects(writing=True):
            raise NotFoundError("blob", key)
        super()._delete(key)


class KeepsTheOldProgress(MemoryBlobManager):
    def _fetch(self, blob: Blob, draft: Path, count: Counter) -> str:
        return super()._fetch(blob, draft, Counter(blob.size, None))


CAUGHT = {
    NamesByFileName: "test_the_same_content_is_the_same_uri",
    DoesNotVerify: "test_what_is_damaged_is_not_delivered",
    WritesInPlace: "test_an_upload_that_was_interrupted_leaves_nothing_visible",
    DownloadsInPlace: "test_a_download_that_was_interrupted_leaves_nothing",
    GivesUpAtOnce: "test_a_store_that_is_away_for_a_moment_is_asked_again",
    InsistsOnWhatIsWrong: "test_what_is_wrong_is_not_asked_again",
    BeginsAgainFromTheStart: "test_a_download_goes_on_where_the_line_was_cut",
    ReadsAllAtOnce: "test_memory_does_not_grow_with_the_file",
    ListsOtherRoots: "test_a_root_does_not_list_what_is_under_another",
    ListsTheFirstPageOnly: "test_many_are_listed",
    TakesAnyUri: "test_a_uri_that_leads_elsewhere_is_refused",
    SharesProjects: "test_cleaning_up_takes_nothing_from_another_snapshot",
    TrustsArchives: "test_a_malicious_archive_is_refused",
    TellsItsSecret: "test_wrong_credentials_are_said_to_be_wrong",
    TakesAMissingBucketForAMissingFile: "test_a_bucket_that_does_not_exist_is_said_to_be_missing",
    DeletesOnlyOnce: "test_what_is_deleted_is_not_found",
    KeepsTheOldProgress: "test_progress_is_told",
}


def suite(broken: type[MemoryBlobManager]) -> type[BucketBlobManagerContract]:
    """The contract suite for managers of that class."""

    class TestBroken(BucketBlobManagerContract):
        holds_content = True
        secret = "not-the-right-one"

        @pytest.fixture
        def make(self) -> Any:
            storage = MemoryStorage()
            return lambda root: broken(storage, root)

        @pytest.fixture
        def with_wrong_credentials(self) -> BlobManager:
            return broken(MemoryStorage(secret="the right one"), secret=self.secret)

        @pytest.fixture
        def without_bucket(self) -> BlobManager:
            return broken(MemoryStorage(exists=False))

        @pytest.fixture
        def read_only(self) -> BlobManager:
            return broken(MemoryStorage(is_writable=False))

        @pytest.fixture
        def unreachable(self) -> BlobManager:
            return broken(MemoryStorage(is_reachable=False))

    return TestBroken


PROBE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bites", {file!r})
bites = importlib.util.module_from_spec(spec)
sys.modules["bites"] = bites
spec.loader.exec_module(bites)
TestBroken = bites.suite(bites.{name})
"""


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda cls: cls.__name__)
def test_a_broken_blob_manager_is_caught(broken: type, pytester: pytest.Pytester) -> None:
    file = inspect.getfile(broken)
    pytester.makepyfile(test_probe=PROBE.format(file=file, name=broken.__name__))
    outcome = pytester.inline_run("-q", "-p", "no:cacheprovider", "-k", CAUGHT[broken])
    _, skipped, failed = outcome.countoutcomes()

    assert failed, f"{broken.__name__} goes unnoticed"
    assert not skipped


def test_a_sound_blob_manager_is_not(pytester: pytest.Pytester) -> None:
    file = inspect.getfile(DoesNotVerify)
    pytester.makepyfile(test_probe=PROBE.format(file=file, name="MemoryBlobManager"))
    names = " or ".join(name for name in CAUGHT.values() if "memory" not in name)
    outcome = pytester.inline_run("-q", "-p", "no:cacheprovider", "-k", names)
    passed, _, failed = outcome.countoutcomes()

    assert not failed
    assert passed >= len(CAUGHT) - 1
