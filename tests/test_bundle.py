import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core.archive import extract
from aiflow_core.bundle import forget, load_bundle, load_workflows, pack
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
