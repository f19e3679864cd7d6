import os
import stat
import struct
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core import bundle
from aiflow_core.bundle import extract, forget, load_bundle, load_workflows, pack
from aiflow_core.errors import DefinitionError, UsageError

FLOW = """
from aiflow_core import Workflow
workflow = Workflow("one")
"""


@pytest.fixture(autouse=True)
def _modules_as_before() -> Iterator[None]:
    sys.modules.pop("flow", None)  # other tests have workflow files of this name, too
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("flow", "helper", "aiflow_workflow_")):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    path = tmp_path / "project" / "flow.py"
    path.write_text(FLOW)
    return path


class TestLoading:
    def test_the_workflows_come_in_the_order_of_the_file(self, flow: Path) -> None:
        flow.write_text(f"{FLOW}\nother = Workflow('another')\nsame = other\n")

        assert [w.name for w in load_workflows(flow)] == ["one", "another"]

    def test_the_file_is_a_module_that_knows_its_place(self, flow: Path) -> None:
        flow.write_text(f"{FLOW}\nplace = (__name__, __file__)\n")
        load_workflows(flow)

        assert sys.modules["flow"].place == ("flow", str(flow))

    def test_no_compiled_file_is_left_beside_it(self, flow: Path) -> None:
        load_workflows(flow)

        assert list(flow.parent.iterdir()) == [flow]

    def test_it_may_import_what_lies_beside_it(self, flow: Path) -> None:
        (flow.parent / "helper_beside.py").write_text("NAME = 'helped'\n")
        flow.write_text(
            "from aiflow_core import Workflow\nimport helper_beside\n"
            "w = Workflow(helper_beside.NAME)\n"
        )

        assert [w.name for w in load_workflows(flow)] == ["helped"]

    @pytest.mark.parametrize("name", ["json", "pytest"])
    def test_a_file_may_have_the_name_of_a_module(self, flow: Path, name: str) -> None:
        import json

        file = flow.rename(flow.parent / f"{name}.py")

        assert [w.name for w in load_workflows(file)] == ["one"]
        assert sys.modules["json"] is json
        assert sys.modules["pytest"] is pytest
        del sys.modules[f"aiflow_workflow_{name}"]

    def test_loading_again_executes_the_file_again(self, flow: Path) -> None:
        first = load_workflows(flow)

        assert load_workflows(flow)[0] is not first[0]

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("x = 1\ny = (2", "flow.py:2: SyntaxError"),
            ("\nimport not_there", "flow.py:2: ModuleNotFoundError: No module named 'not_there'"),
            ("def f():\n    1 / 0\nf()", "flow.py:2: ZeroDivisionError: division by zero"),
            ("import sys\n\nsys.exit(2)", "flow.py:3: the file calls sys.exit(2)"),
            ("import json\njson.loads('{')", "flow.py:2: json.decoder.JSONDecodeError"),
            ("x = 1", "No workflow objects found in flow.py"),
            (f"{FLOW}\nwith workflow:\n    with workflow: pass", "flow.py:6: Sub-workflows"),
            (f"{FLOW}\nother = Workflow('one')", "two workflows called default.one"),
            ("x = '\0'", "null bytes"),
        ],
    )
    def test_what_is_wrong_is_said_with_file_and_line(
        self, flow: Path, source: str, message: str
    ) -> None:
        flow.write_text(source)

        with pytest.raises(DefinitionError) as caught:
            load_workflows(flow)
        assert message in caught.value.what

    def test_a_file_that_could_not_be_loaded_leaves_no_module(self, flow: Path) -> None:
        flow.write_text("import not_there")

        with pytest.raises(DefinitionError):
            load_workflows(flow)
        assert "flow" not in sys.modules

    def test_an_error_in_a_helper_names_the_helper(self, flow: Path) -> None:
        (flow.parent / "helper_bad.py").write_text("\n\nraise OSError('no')\n")
        flow.write_text("import helper_bad")

        with pytest.raises(DefinitionError, match=r"helper_bad\.py:3: OSError: no"):
            load_workflows(flow)

    def test_a_file_that_is_missing_is_said_to_be(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"There is no workflow file .*Check the path"):
            load_workflows(tmp_path / "missing.py")

    def test_two_names_may_be_alike_in_two_namespaces(self, flow: Path) -> None:
        flow.write_text(f"{FLOW}\nother = Workflow('one', namespace='elsewhere')")

        assert len(load_workflows(flow)) == 2


class TestForgetting:
    def test_a_module_is_loaded_from_the_next_place(self, flow: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        for place in (flow.parent, other):
            (place / "helper_moved.py").write_text(f"PLACE = {str(place)!r}\n")
            (place / "flow.py").write_text(f"import helper_moved\n{FLOW}")

        load_bundle(flow.parent, "flow.py")
        forget(flow.parent)
        assert "helper_moved" not in sys.modules
        assert str(flow.parent) not in sys.path
        load_bundle(other, "flow.py")

        place = sys.modules["helper_moved"].PLACE
        assert place == str(other)

    def test_modules_from_elsewhere_stay(self, flow: Path) -> None:
        import json

        load_bundle(flow.parent, "flow.py")
        forget(flow.parent)

        assert sys.modules["json"] is json


class TestPacking:
    def test_what_is_packed_comes_out_again(self, flow: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        (data / "deep" / "empty").mkdir(parents=True)
        (data / "deep" / "numbers.csv").write_text("1,2\n")
        (data / "deep" / "__pycache__").mkdir()
        (data / "deep" / "__pycache__" / "x.pyc").touch()
        (tmp_path / "run.sh").write_text("#!/bin/sh\n")
        (tmp_path / "run.sh").chmod(0o755)

        archive, reference = pack(flow, [data, tmp_path / "run.sh"], tmp_path / "out")
        target = extract(archive, tmp_path / "unpacked")

        found = sorted(str(p.relative_to(target)) for p in target.rglob("*"))
        assert found == [
            *("data", "data/deep", "data/deep/empty", "data/deep/numbers.csv"),
            *("flow.py", "run.sh"),
        ]
        assert stat.S_IMODE((target / "run.sh").stat().st_mode) == 0o755
        assert (target / "data/deep/numbers.csv").read_text() == "1,2\n"
        assert (reference.entry, reference.uri) == ("flow.py", "")
        assert archive.name == f"{reference.sha256}.zip"
        assert [w.name for w in load_bundle(target, reference.entry)] == ["one"]

    def test_the_same_content_is_the_same_archive(self, flow: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        for name in ("b", "a", "c"):
            (data / name).write_text(name)
        archive, reference = pack(flow, [data], tmp_path / "out")
        first = archive.read_bytes()
        for name in ("a", "c", "b"):
            (data / name).unlink()
            (data / name).write_text(name)
        os.utime(flow, (1, 1))

        archive, again = pack(flow, [data], tmp_path / "out")

        assert again == reference
        assert archive.read_bytes() == first
        assert list((tmp_path / "out").iterdir()) == [archive]

    def test_links_are_packed_as_what_they_point_to(self, flow: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (tmp_path / "real").write_text("real")
        (data / "link").symlink_to(tmp_path / "real")

        archive, _ = pack(flow, [data], tmp_path / "out")
        copy = extract(archive, tmp_path / "unpacked") / "data" / "link"

        assert copy.read_text() == "real"
        assert not copy.is_symlink()

    def test_a_link_that_leads_in_a_circle_is_refused(self, flow: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        (data / "again").symlink_to(data)

        with pytest.raises(UsageError, match="leads back"):
            pack(flow, [data], tmp_path / "out")

    def test_what_is_missing_is_named(self, flow: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no file or directory .*missing"):
            pack(flow, [tmp_path / "missing"], tmp_path / "out")
        with pytest.raises(UsageError, match="no workflow file"):
            pack(tmp_path / "missing.py", [], tmp_path / "out")

    def test_two_files_of_one_name_are_refused(self, flow: Path, tmp_path: Path) -> None:
        (tmp_path / "flow.py").touch()

        with pytest.raises(UsageError, match=r"would both be 'flow.py'"):
            pack(flow, [tmp_path / "flow.py"], tmp_path / "out")

    def test_names_that_differ_in_case_only_are_refused(self, flow: Path, tmp_path: Path) -> None:
        (tmp_path / "FLOW.py").touch()

        with pytest.raises(UsageError, match="nothing but case"):
            pack(flow, [tmp_path / "FLOW.py"], tmp_path / "out")

    def test_what_is_no_file_is_refused(self, flow: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(UsageError, match="neither a file nor a directory"):
            pack(flow, [tmp_path / "pipe"], tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    def test_a_file_and_a_directory_of_one_name_are_refused(
        self, flow: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "flow.py").mkdir()

        with pytest.raises(UsageError):
            pack(flow, [tmp_path / "flow.py"], tmp_path / "out")


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
        return tmp_path / "in" / "bundle.zip"

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
        monkeypatch.setattr(bundle, "MAX_ENTRIES", 3)
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

        with pytest.raises(UsageError, match="larger than a bundle may be"):
            extract(archive, refused)

    def test_a_directory_that_is_there_is_left_alone(
        self, flow: Path, archive: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "there"
        target.mkdir()

        assert extract(archive_of(archive, entry("a")), target) == target
        assert not list(target.iterdir())

    def test_many_may_extract_to_one_place_at_once(self, flow: Path, tmp_path: Path) -> None:
        archive, _ = pack(flow, [], tmp_path / "out")
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

        assert found == [FLOW] * 6
        assert list(target.parent.iterdir()) == [target]
