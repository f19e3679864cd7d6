"""What an archive may hold, and what is refused before it does harm."""

import stat
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core import archive as archives
from aiflow_core.archive import extract, pack
from aiflow_core.errors import UsageError


def entry(name: str, mode: int = stat.S_IFREG | 0o644, **fields: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name  # the constructor would mend it
    info.external_attr = mode << 16
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive_of(path: Path, *entries: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info in entries:
            archive.writestr(info, b"" if info.filename.endswith("/") else b"content")
    return path


def damaged(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


NAMES = [
    *("../up", "a/../../up", "/etc/passwd", "//host/share", "C:/windows", "c:x", "a\\b", "..\\up"),
    *("..", ".", "./a", "a/./b", "a//b", "a/..", "", "/", "new\nline", "bell\x07", "x" * 256),
    *("a/" * 600 + "x", "a/../b", "../", "\\\\host\\share", "~/../../x", "a/b/../../../c"),
]
KINDS = {
    "symbolic link": stat.S_IFLNK | 0o777,
    "character device": stat.S_IFCHR | 0o600,
    "block device": stat.S_IFBLK | 0o600,
    "pipe": stat.S_IFIFO | 0o600,
    "socket": stat.S_IFSOCK | 0o600,
    "setuid": stat.S_IFREG | 0o4755,
    "setgid": stat.S_IFREG | 0o2755,
    "sticky": stat.S_IFREG | 0o1644,
    "directory without a closing slash": stat.S_IFDIR | 0o755,
}
TOGETHER = [
    ("a", "A"),
    ("stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
    ("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"),
    ("a", "a/"),
    ("a", "a/b"),
    ("a/b", "a"),
    ("a", "a/b/c"),
]


class TestExtracting:
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        (tmp_path / "in").mkdir()
        return tmp_path / "in" / "archive.zip"

    @pytest.fixture
    def refused(self, tmp_path: Path) -> Iterator[Path]:
        """The directory to extract to; afterwards there must be nothing, there or beside it."""
        before = {p for p in tmp_path.rglob("*") if p.is_relative_to(tmp_path / "in")}
        target = tmp_path / "out" / "deep" / "target"
        yield target
        assert not target.exists()
        left = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "in")}
        assert left <= {target.parent, target.parent.parent}
        assert before <= set(tmp_path.rglob("*"))

    @pytest.mark.parametrize("name", NAMES, ids=[repr(n[:20]) for n in NAMES])
    def test_a_name_that_leads_elsewhere_is_refused(
        self, archive: Path, refused: Path, name: str
    ) -> None:
        archive_of(archive, entry("fine"), entry(name))

        with pytest.raises(UsageError):
            extract(archive, refused)

    @pytest.mark.parametrize("mode", KINDS.values(), ids=KINDS.keys())
    def test_what_is_no_plain_file_is_refused(
        self, archive: Path, refused: Path, mode: int
    ) -> None:
        archive_of(archive, entry("thing", mode))

        with pytest.raises(UsageError, match="not a plain file"):
            extract(archive, refused)

    @pytest.mark.parametrize("names", TOGETHER, ids=map(repr, TOGETHER))
    def test_names_that_get_in_each_others_way_are_refused(
        self, archive: Path, refused: Path, names: tuple[str, str]
    ) -> None:
        kinds = [stat.S_IFDIR | 0o755 if n.endswith("/") else stat.S_IFREG for n in names]
        archive_of(archive, *map(entry, names, kinds))

        with pytest.raises(UsageError):
            extract(archive, refused)

    def test_one_name_twice_is_refused(self, archive: Path, refused: Path) -> None:
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive_of(archive, entry("a"), entry("a"))

        with pytest.raises(UsageError, match="two entries of one name"):
            extract(archive, refused)

    @pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all" * 100, b"PK\5\6" + b"x"])
    def test_what_is_no_archive_is_refused(
        self, archive: Path, refused: Path, content: bytes
    ) -> None:
        archive.write_bytes(content)

        with pytest.raises(UsageError):
            extract(archive, refused)

    @pytest.mark.parametrize("kept", [1, 30, 60, 100, -30, -22, -10, -1])
    def test_an_archive_that_was_cut_off_is_refused(
        self, archive: Path, refused: Path, kept: int
    ) -> None:
        archive_of(archive, entry("a"), entry("b"))
        archive.write_bytes(archive.read_bytes()[:kept])

        with pytest.raises(UsageError):
            extract(archive, refused)

    def test_content_that_was_changed_is_refused(self, archive: Path, refused: Path) -> None:
        damaged(archive_of(archive, entry("a")), b"content", b"CONTENT")

        with pytest.raises(UsageError, match="CRC"):
            extract(archive, refused)

    def test_compressed_content_that_was_changed_is_refused(
        self, archive: Path, refused: Path
    ) -> None:
        archive_of(archive, entry("a", compress_type=zipfile.ZIP_DEFLATED))
        content = bytearray(archive.read_bytes())
        content[31:34] = b"\xff\xff\xff"
        archive.write_bytes(content)

        with pytest.raises(UsageError):
            extract(archive, refused)

    def test_an_encrypted_entry_is_refused(self, archive: Path, refused: Path) -> None:
        archive_of(archive, entry("a"))
        content = bytearray(archive.read_bytes())
        content[content.index(b"PK\1\2") + 8] |= 1
        archive.write_bytes(content)

        with pytest.raises(UsageError, match="encrypted"):
            extract(archive, refused)

    def test_an_unknown_compression_is_refused(self, archive: Path, refused: Path) -> None:
        archive_of(archive, entry("a"))
        content = bytearray(archive.read_bytes())
        for start in (content.index(b"PK\1\2") + 10, content.index(b"PK\3\4") + 8):
            content[start] = 99
        archive.write_bytes(content)

        with pytest.raises(UsageError):
            extract(archive, refused)

    def test_more_content_than_allowed_is_refused_before_it_is_unpacked(
        self, archive: Path, refused: Path
    ) -> None:
        archive_of(archive, entry("a"))
        content = bytearray(archive.read_bytes())
        struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, 0xFFFFFFFE)
        archive.write_bytes(content)

        with pytest.raises(UsageError, match=r"at most \d+ bytes"):
            extract(archive, refused)

    def test_an_entry_that_is_smaller_than_it_says_is_refused(
        self, archive: Path, refused: Path
    ) -> None:
        archive_of(archive, entry("a"))
        content = bytearray(archive.read_bytes())
        struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, 10)
        archive.write_bytes(content)

        with pytest.raises(UsageError, match="not as long as it says"):
            extract(archive, refused)

    def test_an_entry_that_is_larger_than_it_says_is_refused(
        self, archive: Path, refused: Path
    ) -> None:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("zeros", bytes(10_000_000))
        content = bytearray(archive.read_bytes())
        struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, 10)
        archive.write_bytes(content)

        with pytest.raises(UsageError):
            extract(archive, refused)

    def test_more_entries_than_allowed_are_refused(
        self, archive: Path, refused: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
        archive_of(archive, *(entry(f"f{n}") for n in range(4)))

        with pytest.raises(UsageError, match="at most 3 files, not 4"):
            extract(archive, refused)

    def test_a_list_of_entries_that_would_fill_memory_is_not_read(
        self, archive: Path, refused: Path
    ) -> None:
        archive_of(archive, entry("a"))
        content = archive.read_bytes()
        end = content.index(b"PK\5\6")
        archive.write_bytes(content[: end + 12] + struct.pack("<L", 1 << 30) + content[end + 16 :])

        with pytest.raises(UsageError, match="more entries"):
            extract(archive, refused)

    def test_the_64_bit_form_is_refused(
        self, archive: Path, refused: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
        archive_of(archive, entry("a"))

        with pytest.raises(UsageError, match="larger than an archive may be"):
            extract(archive, refused)

    def test_a_directory_that_is_there_is_left_alone(self, archive: Path, tmp_path: Path) -> None:
        target = tmp_path / "there"
        target.mkdir()

        assert extract(archive_of(archive, entry("a")), target) == target
        assert not list(target.iterdir())

    def test_many_may_extract_to_one_place_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "flow.py").write_text("content")
        archive = pack({"flow.py": tmp_path / "flow.py"}, tmp_path / "out")
        target = tmp_path / "snapshots" / "one"
        start = threading.Barrier(6)
        found = []

        def unpack() -> None:
            start.wait()
            found.append((extract(archive, target) / "flow.py").read_text())

        threads = [threading.Thread(target=unpack) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert found == ["content"] * 6
        assert list(target.parent.iterdir()) == [target]
