"""Files go up, come down, are listed and deleted."""

import time
import tracemalloc
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from aiflow_core.errors import ConflictError, NotFoundError, UsageError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blobs.base import DAY_MS, BlobContract, Make, inside, pattern, written

SUFFIXES = [
    ".данные",
    ".a b+c",
    ".50%",
    ".x#y?z&a=b",
    ".\N{PARTY POPPER}",
    ".~!@$^()_-,;'[]{}",
    ".%2F",
    ".#LATEST",
    ".e\N{COMBINING ACUTE ACCENT}",
]
HOSTILE = [
    "/../secret",
    "/ab/../../secret",
    "/ab/secret",
    "/..",
    "/",
    "",
    "/ab/" + "0" * 64,
    "/00/" + "0" * 64 + "/../../x",
    "/00/" + "0" * 64 + ".a\0b",
    "/projects/../" + "0" * 64 + ".zip",
    "//00/" + "0" * 64,
    "/00/" + "0" * 63,
    "/%2e%2e/" + "0" * 64,
]
MIB = 2**20


class FilesContract(BlobContract):
    foreign_uri = "elsewhere://bucket/file"

    holds_content = False
    """Whether the store is in this process, so that its memory holds all that is stored."""

    flat_bytes = 32 * MIB
    """How much memory an upload or a download may take, whatever the size of the file."""

    def test_a_file_comes_back_as_it_went_in(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        downloaded = blobs.download(uri, tmp_path / "new" / "directory")

        assert downloaded.parent == tmp_path / "new" / "directory"
        assert downloaded.read_bytes() == file.read_bytes() == b"content" * 1000
        assert downloaded.suffix == ".zip"
        assert inside(downloaded.parent) == [downloaded], "nothing else is left there"

    def test_an_empty_file_is_a_file(self, blobs: BlobManager, tmp_path: Path) -> None:
        uri = blobs.upload(written(tmp_path / "empty", b""))

        assert blobs.download(uri, tmp_path / "d").read_bytes() == b""
        assert [blob.size for blob in blobs.list_blobs()] == [0]

    @pytest.mark.parametrize("off", [-1, 0, 1])
    def test_a_file_about_as_large_as_a_piece_comes_back(
        self, blobs: BlobManager, tmp_path: Path, off: int
    ) -> None:
        size = getattr(blobs, "part_bytes", MIB) + off
        blobs.range_bytes = size - off
        file = written(tmp_path / "file", pattern(size))

        assert blobs.download(blobs.upload(file), tmp_path / "d").read_bytes() == pattern(size)

    def test_a_file_of_several_pieces_comes_back(
        self, blobs: BlobManager, large: Path, tmp_path: Path
    ) -> None:
        assert (
            blobs.download(blobs.upload(large), tmp_path / "d").read_bytes() == large.read_bytes()
        )

    def test_the_same_content_is_the_same_uri(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        same = written(tmp_path / "same.zip", file.read_bytes())
        other = written(tmp_path / "other.zip", b"something else")

        assert blobs.upload(file) == blobs.upload(file) == blobs.upload(same)
        assert blobs.upload(other) != blobs.upload(file)
        assert len(list(blobs.list_blobs())) == 2

    def test_another_manager_of_the_same_store_finds_the_file(
        self, make: Make, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        assert make("root").download(blobs.upload(file), tmp_path / "d").is_file()

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_suffix_may_be_of_any_printable_characters(
        self, blobs: BlobManager, tmp_path: Path, suffix: str
    ) -> None:
        uri = blobs.upload(written(tmp_path / f"файл{suffix}", b"content"))

        assert blobs.download(uri, tmp_path / "d").suffix == unicodedata.normalize("NFC", suffix)
        assert [blob.uri for blob in blobs.list_blobs()] == [uri]
        blobs.delete(uri)
        assert not list(blobs.list_blobs())

    @pytest.mark.parametrize("suffix", [".a\nb", ".a\\b", ".a:b", f".{'x' * 65}", ".a\x07"])
    def test_a_suffix_that_is_no_name_elsewhere_is_left_out(
        self, blobs: BlobManager, tmp_path: Path, suffix: str
    ) -> None:
        uri = blobs.upload(written(tmp_path / f"file{suffix}", b"content"))

        assert blobs.download(uri, tmp_path / "d").suffix == ""

    def test_the_local_file_stays_as_it_is(self, blobs: BlobManager, file: Path) -> None:
        before = file.stat()
        blobs.upload(file)

        assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)

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

        with pytest.raises(NotFoundError) as caught:
            blobs.download(uri, tmp_path / "d")
        assert caught.value.next_step
        assert not inside(tmp_path / "d")

    def test_what_was_deleted_can_be_uploaded_again(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        blobs.delete(blobs.upload(file))

        assert blobs.download(blobs.upload(file), tmp_path / "d").is_file()

    @pytest.mark.parametrize("kind", ["missing", "directory"])
    def test_what_is_no_local_file_is_not_found(
        self, blobs: BlobManager, tmp_path: Path, kind: str
    ) -> None:
        (tmp_path / "directory").mkdir()

        with pytest.raises(NotFoundError):
            blobs.upload(tmp_path / kind)

    def test_a_uri_that_it_did_not_make_is_refused(
        self, blobs: BlobManager, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError):
            blobs.download(self.foreign_uri, tmp_path / "d")
        with pytest.raises(UsageError):
            blobs.delete(self.foreign_uri)

    @pytest.mark.parametrize("tail", HOSTILE)
    def test_a_uri_that_leads_elsewhere_is_refused(
        self, blobs: BlobManager, file: Path, tmp_path: Path, tail: str
    ) -> None:
        uri = blobs.upload(file)
        root = uri[: -len(f"/00/{'0' * 64}.zip")]

        with pytest.raises(UsageError, match="is not the uri of a blob"):
            blobs.download(root + tail, tmp_path / "d")
        with pytest.raises(UsageError, match="is not the uri of a blob"):
            blobs.delete(root + tail)
        assert [blob.uri for blob in blobs.list_blobs()] == [uri]

    def test_a_file_that_changes_while_it_goes_up_is_refused(
        self, blobs: BlobManager, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = blobs._put

        def write_and_put(*args: object) -> None:
            with large.open("ab") as late:
                late.write(b"one more line")
            put(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(blobs, "_put", write_and_put)

        with pytest.raises(ConflictError, match="changed while it was uploaded"):
            blobs.upload(large)
        assert not list(blobs.list_blobs())

    # --- listing -------------------------------------------------------------------------------

    def test_nothing_is_listed_where_nothing_is(self, blobs: BlobManager) -> None:
        assert not list(blobs.list_blobs())

    def test_what_is_listed_is_what_is_there(self, blobs: BlobManager, tmp_path: Path) -> None:
        uris = {
            blobs.upload(written(tmp_path / f"{n}.txt", b"x" * n)): n for n in (0, 1, 500, 70_000)
        }
        listed = list(blobs.list_blobs())

        assert {blob.uri: blob.size for blob in listed} == uris
        assert all(a.key < b.key for a, b in pairwise(listed))
        assert all(blob.uri.endswith(f"/{blob.key}") for blob in listed)
        assert all(abs(blob.modified_ms - time.time() * 1000) < DAY_MS for blob in listed)

    def test_a_prefix_chooses_what_is_listed(self, blobs: BlobManager, tmp_path: Path) -> None:
        for n in range(24):
            blobs.upload(written(tmp_path / "n", str(n).encode()))
        keys = [blob.key for blob in blobs.list_blobs()]

        for prefix in ("", keys[0][0], keys[5][:2], keys[5][:3], keys[5][:9], keys[5], "zz", "../"):
            listed = [blob.key for blob in blobs.list_blobs(prefix)]
            assert listed == [key for key in keys if key.startswith(prefix)], prefix

    def test_many_are_listed(
        self, blobs: BlobManager, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        count = request.config.getoption("--blob-objects", default=200)
        files = [written(tmp_path / "many" / str(n), str(n).encode()) for n in range(count)]
        with ThreadPoolExecutor(8) as pool:
            uris = set(pool.map(blobs.upload, files))

        assert len(uris) == count
        assert {blob.uri for blob in blobs.list_blobs()} == uris

    # --- size and progress ---------------------------------------------------------------------

    def test_memory_does_not_grow_with_the_file(
        self, blobs: BlobManager, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        size = request.config.getoption("--blob-mib", default=48) * MIB
        path = tmp_path / "big"
        with path.open("wb") as file:
            for n in range(size // MIB):
                file.write(n.to_bytes(8, "big") * (MIB // 8))
        allowed = self.flat_bytes + 2 * size * self.holds_content
        blobs.connections = min(blobs.connections, 2)
        peaks = []
        for step in (
            lambda: blobs.upload(path),
            lambda: blobs.download(blobs.upload(path), tmp_path / "d"),
        ):
            tracemalloc.start()
            try:
                step()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()

        assert max(peaks) < allowed
        assert len(inside(tmp_path / "d")) == 1

    def test_progress_is_told(self, blobs: BlobManager, large: Path, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        uri = blobs.upload(large, progress=lambda done, total: told.append((done, total)))
        up = told.copy()
        told.clear()
        blobs.download(uri, tmp_path / "d", progress=lambda done, total: told.append((done, total)))

        for way in (up, told):
            assert {total for _, total in way} == {large.stat().st_size}
            assert all(a[0] < b[0] for a, b in pairwise(way))
            assert way[-1][0] == large.stat().st_size
        assert len(told) > 1
