"""Several writers and readers, and several roots in one store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiflow_core.errors import NotFoundError, UsageError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blobs.base import BlobContract, Make, inside, pattern, written


class SharingContract(BlobContract):
    def test_many_threads_may_use_it_at_once(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        def there_and_back(number: int) -> bytes:
            return blobs.download(blobs.upload(file), tmp_path / str(number % 2)).read_bytes()

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(there_and_back, range(40))) == {file.read_bytes()}
        assert len(inside(tmp_path / "0")) == len(inside(tmp_path / "1")) == 1

    def test_writers_of_one_large_file_do_not_disturb_each_other(
        self, make: Make, blobs: BlobManager, large: Path, tmp_path: Path
    ) -> None:
        together = threading.Barrier(3)

        def upload(manager: BlobManager) -> str:
            together.wait()
            return manager.upload(large)

        with ThreadPoolExecutor(3) as pool:
            uris = set(pool.map(upload, [blobs, make("root"), make("root")]))

        (uri,) = uris
        assert blobs.download(uri, tmp_path / "d").read_bytes() == large.read_bytes()
        assert [blob.uri for blob in blobs.list_blobs()] == [uri]

    def test_writers_of_different_files_do_not_disturb_each_other(
        self, make: Make, tmp_path: Path
    ) -> None:
        managers = [make("root"), make("root")]

        def there_and_back(number: int) -> bool:
            manager, content = managers[number % 2], pattern(100_000) + bytes([number])
            uri = manager.upload(written(tmp_path / "in" / str(number), content))
            return manager.download(uri, tmp_path / "out").read_bytes() == content

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(there_and_back, range(12)))

    def test_a_reader_sees_the_whole_file_or_none(
        self, make: Make, blobs: BlobManager, large: Path, tmp_path: Path
    ) -> None:
        expected = blobs.upload(large)
        blobs.delete(expected)
        over = threading.Event()
        seen: list[int] = []

        reader = make("root")

        def look() -> None:
            while not over.is_set():
                seen.extend(blob.size for blob in reader.list_blobs())
                try:
                    seen.append(reader.download(expected, tmp_path / "d").stat().st_size)
                except NotFoundError:
                    continue

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            try:
                for _ in range(2):
                    blobs.upload(large)
            finally:
                over.set()
            looking.result()
        assert set(seen) <= {large.stat().st_size}

    # --- roots ---------------------------------------------------------------------------------

    def test_the_same_file_under_two_roots_is_two_files(
        self, make: Make, file: Path, tmp_path: Path
    ) -> None:
        one, other = make("one"), make("other")
        uri = one.upload(file)
        kept = other.upload(file)

        assert uri != kept
        one.delete(uri)
        assert other.download(kept, tmp_path / "d").is_file()

    @pytest.mark.parametrize("names", [("a", "ab"), ("a", "a/b"), ("проект 1", "проект 1+")])
    def test_a_root_does_not_list_what_is_under_another(
        self, make: Make, file: Path, names: tuple[str, str]
    ) -> None:
        one, other = map(make, names)
        uri = other.upload(file)

        assert not list(one.list_blobs())
        assert [blob.uri for blob in other.list_blobs()] == [uri]

    def test_the_uri_of_another_root_is_refused(
        self, make: Make, file: Path, tmp_path: Path
    ) -> None:
        uri = make("one").upload(file)

        with pytest.raises(UsageError):
            make("other").download(uri, tmp_path / "d")
        with pytest.raises(UsageError):
            make("on").delete(uri)
        assert make("one").download(uri, tmp_path / "d").is_file()
