"""Projects of snapshots: packed, unpacked without trust, cleaned up one by one."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from aiflow_core.errors import AIFlowError, DamagedError, NotFoundError, UsageError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.blob_transfer import Counter, Source
from aiflow_core.testing.blobs.base import BlobContract, Make, damage, inside, written


def archive(*entries: tuple[str, int, bytes]) -> bytes:
    """A zip archive of entries of any name, mode and content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, mode, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.external_attr = mode << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def claiming(size: int) -> bytes:
    """An archive whose one entry says that it is of that size."""
    content = bytearray(archive(("a", PLAIN, b"content")))
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, size)
    return bytes(content)


PLAIN = stat.S_IFREG | 0o644
MALICIOUS: dict[str, bytes] = {
    "out of the directory": archive(("fine", PLAIN, b""), ("../outside", PLAIN, b"x")),
    "deep out of the directory": archive(("a/../../../outside", PLAIN, b"x")),
    "absolute": archive(("/tmp/outside", PLAIN, b"x")),
    "drive letter": archive(("C:/outside", PLAIN, b"x")),
    "backslashes": archive(("..\\outside", PLAIN, b"x")),
    "symbolic link": archive(("link", stat.S_IFLNK | 0o777, b"/etc/passwd")),
    "through a link": archive(("link", stat.S_IFLNK | 0o777, b".."), ("link/outside", PLAIN, b"x")),
    "device": archive(("null", stat.S_IFCHR | 0o666, b"")),
    "setuid": archive(("program", stat.S_IFREG | 0o4755, b"x")),
    "names that differ in case": archive(("name", PLAIN, b"1"), ("NAME", PLAIN, b"2")),
    "a file that is a directory": archive(("a", PLAIN, b"1"), ("a/b", PLAIN, b"2")),
    "bomb that says so": claiming(0xFFFFFFFE),
    "bomb that lies": archive(("zeros", PLAIN, bytes(10_000_000))).replace(
        struct.pack("<L", 10_000_000), struct.pack("<L", 10)
    ),
    "no archive": b"#!/bin/sh\nrm -rf /\n",
    "cut": archive(("a", PLAIN, b"content" * 100))[:-30],
    "empty": b"",
}


class ProjectsContract(BlobContract):
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        written(tmp_path / "project" / "workflow.py", b"x = 1\n")
        written(tmp_path / "project" / "данные" / "numbers.csv", b"1,2\n")
        (tmp_path / "project" / "empty").mkdir()
        written(tmp_path / "project" / "run.sh", b"#!/bin/sh\n").chmod(0o755)
        written(tmp_path / "project" / "__pycache__" / "workflow.pyc", b"compiled")
        return tmp_path / "project"

    def test_a_project_comes_back_as_it_was(
        self, blobs: BlobManager, project: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload_project("snapshot-1", str(project))
        place = Path(blobs.download_project("snapshot-1", uri, str(tmp_path / "work")))

        found = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
        assert found == ["empty", "run.sh", "workflow.py", "данные", "данные/numbers.csv"]
        assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o755
        assert place.is_relative_to(tmp_path / "work")

    def test_a_project_comes_back_by_another_manager_with_the_number_of_its_snapshot(
        self, make: Make, blobs: BlobManager, project: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload_project(7, project)

        place = make("root").download_project(7, uri, tmp_path / "work")
        assert (Path(place) / "workflow.py").read_text() == "x = 1\n"

    def test_without_a_path_a_project_goes_where_no_other_is(
        self,
        blobs: BlobManager,
        project: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        uri = blobs.upload_project("1", project)
        one, other = blobs.download_project("1", uri), blobs.download_project("1", uri)

        assert one != other
        assert (Path(one) / "workflow.py").is_file()
        monkeypatch.setattr(blobs, "_local_repository", tmp_path / "repository")
        assert Path(blobs.download_project("1", uri)).is_relative_to(tmp_path / "repository" / "1")

    def test_a_project_changes_its_uri_with_its_content(
        self, blobs: BlobManager, project: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload_project("1", project)
        first = blobs.download_project("1", uri, tmp_path / "work")
        assert blobs.upload_project("1", project) == uri
        written(project / "workflow.py", b"x = 2\n")
        changed = blobs.upload_project("1", project)
        second = blobs.download_project("1", changed, tmp_path / "work")

        assert changed != uri
        assert (Path(first) / "workflow.py").read_text() == "x = 1\n"
        assert (Path(second) / "workflow.py").read_text() == "x = 2\n"

    def test_cleaning_up_takes_nothing_from_another_snapshot(
        self, blobs: BlobManager, project: Path, file: Path, tmp_path: Path
    ) -> None:
        one, ten = blobs.upload_project("1", project), blobs.upload_project("10", project)
        kept = blobs.upload(file)
        blobs.cleanup_project("1", one)
        blobs.cleanup_project("1", one)

        with pytest.raises(NotFoundError):
            blobs.download_project("1", one, tmp_path / "work")
        assert blobs.download_project("10", ten, tmp_path / "work")
        assert {blob.uri for blob in blobs.list_blobs()} == {ten, kept}
        assert [blob.uri for blob in blobs.list_blobs("projects/10/")] == [ten]
        assert not list(blobs.list_blobs("projects/1/"))

    def test_cleaning_up_removes_the_copies_in_the_local_repository(
        self,
        blobs: BlobManager,
        project: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(blobs, "_local_repository", tmp_path / "repository")
        uris = {name: blobs.upload_project(name, project) for name in ("a", "b")}
        for name, uri in uris.items():
            blobs.download_project(name, uri)
        blobs.cleanup_project("a", uris["a"])

        assert [path.name for path in inside(tmp_path / "repository")] == ["b"]

    def test_what_is_no_project_of_the_snapshot_is_not_cleaned_up(
        self, blobs: BlobManager, project: Path, file: Path
    ) -> None:
        other, plain = blobs.upload_project("2", project), blobs.upload(file)

        for uri in (other, plain):
            with pytest.raises(UsageError, match="is not a project of the snapshot 1"):
                blobs.cleanup_project("1", uri)
        assert len(list(blobs.list_blobs())) == 2

    @pytest.mark.parametrize(
        "snapshot",
        ["..", "../1", "a/b", "/etc", "", ".", "a\0b", "a b", "\u202e", "-rf", "x" * 300],
    )
    def test_a_snapshot_whose_name_leads_elsewhere_is_refused(
        self, blobs: BlobManager, project: Path, snapshot: str
    ) -> None:
        uri = blobs.upload_project("1", project)

        for call in (
            lambda: blobs.upload_project(snapshot, project),
            lambda: blobs.download_project(snapshot, uri),
            lambda: blobs.cleanup_project(snapshot, uri),
        ):
            with pytest.raises(UsageError):
                call()
        assert [blob.uri for blob in blobs.list_blobs()] == [uri]

    def test_what_is_no_directory_is_no_project(self, blobs: BlobManager, file: Path) -> None:
        with pytest.raises(UsageError, match="no directory"):
            blobs.upload_project("1", file)

    def test_a_damaged_project_is_not_unpacked(
        self, blobs: BlobManager, project: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload_project("1", project)
        damage(blobs, uri, archive(("evil.py", PLAIN, b"x")), tmp_path / "rot")

        with pytest.raises(DamagedError):
            blobs.download_project("1", uri, tmp_path / "work")
        assert not inside(tmp_path / "work")

    @pytest.mark.parametrize("content", MALICIOUS.values(), ids=MALICIOUS.keys())
    def test_a_malicious_archive_is_refused(
        self,
        blobs: BlobManager,
        tmp_path: Path,
        content: bytes,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        source = Source(written(tmp_path / "in" / "evil.zip", content))
        key = f"projects/1/{source.sha256}.zip"
        blobs._put(key, source, Counter(source.size, None))
        before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}

        with pytest.raises(AIFlowError) as caught:
            blobs.download_project("1", blobs._uri(key), tmp_path / "work")

        assert isinstance(caught.value, UsageError)
        with pytest.raises(UsageError):
            blobs.download_project("1", blobs._uri(key))
        assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
        assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before
