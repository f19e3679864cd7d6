"""Which plugins there are and may be used, without importing any."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core import catalog
from aiflow_core.catalog import State
from aiflow_core.errors import PluginError
from aiflow_core.plugins import driver_class

OPERATOR = """
from aiflow_core import Operator
class {name}(Operator):
    def start(self, context):
        print({name!r})
"""


class Desk:
    """A place for distributions, and an AIFLOW_HOME."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def install(self, package: str, init: str = "", *, name: str = "", body: str = "") -> None:
        """A distribution `dist-<package>` with an operator of that name."""
        info = self.folder / f"dist_{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: dist-{package}\nVersion: 1.0\n"
        )
        points = f"[aiflow.operator]\n{name or package} = {package}.operator:One\n"
        (info / "entry_points.txt").write_text(points)
        (self.folder / package).mkdir()
        (self.folder / package / "__init__.py").write_text(init)
        (self.folder / package / "operator.py").write_text(body or OPERATOR.format(name="One"))

    def settings(self, text: str) -> None:
        self.home.mkdir(exist_ok=True)
        (self.home / "project.yaml").write_text(text)

    def drop(self, path: str, text: str) -> None:
        file = self.home / "ai_flow_plugins" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("AIFLOW_HOME", str(site / "home"))
    monkeypatch.delenv("AIFLOW_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield Desk(site)
    for name in set(sys.modules) - before:
        if name.startswith("ai_flow_plugins") or (site / name.partition(".")[0]).exists():
            del sys.modules[name]


def found(name: str, kind: str = "operator") -> catalog.Plugin:
    (plugin,) = [p for p in catalog.plugins() if (p.kind, p.name) == (kind, name)]
    return plugin


class TestTheVersionOfTheContracts:
    def test_a_plugin_that_does_not_say_is_used(self, desk: Desk) -> None:
        desk.install("silent")

        assert (found("silent").state, found("silent").api) == (State.LAZY, "")
        assert driver_class("aiflow.operator", "silent").__name__ == "One"

    @pytest.mark.parametrize("text", ['aiflow_api = ">=1,<2"', 'aiflow_api: str = "==1"'])
    def test_a_plugin_for_this_version_is_used(self, desk: Desk, text: str) -> None:
        desk.install("fitting", f'"""Docs."""\n{text}\n')

        assert found("fitting").state is State.LAZY
        assert found("fitting").api in text

    def test_a_plugin_for_another_is_left_out_before_it_is_imported(self, desk: Desk) -> None:
        desk.install("old", 'aiflow_api = "<1"\nraise RuntimeError("imported")\n')

        assert found("old").state is State.MISFIT
        with pytest.raises(PluginError, match="left out: it is for the versions <1 of AIFlow's"):
            driver_class("aiflow.operator", "old")

    @pytest.mark.parametrize(
        ("init", "problem"),
        [
            ('aiflow_api = "soon"', "its aiflow_api 'soon' is no range of versions"),
            ("aiflow_api = str(1)", "__init__.py: aiflow_api is not a plain string"),
            ("aiflow_api = (", "__init__.py: line 1: "),
        ],
    )
    def test_one_that_cannot_be_read_is_broken(self, desk: Desk, init: str, problem: str) -> None:
        desk.install("odd", init)

        assert found("odd").state is State.BROKEN
        assert found("odd").problem.startswith(problem)
        with pytest.raises(PluginError, match="'odd' of dist-odd is left out"):
            driver_class("aiflow.operator", "odd")

    def test_of_two_with_one_name_the_one_that_fits_is_used(self, desk: Desk) -> None:
        desk.install("first", 'aiflow_api = "==1"', name="same")
        desk.install("second", 'aiflow_api = "==2"', name="same")

        assert driver_class("aiflow.operator", "same").__module__ == "first.operator"


class TestNames:
    def test_two_plugins_of_one_name_are_in_each_others_way(self, desk: Desk) -> None:
        desk.install("first", name="same")
        desk.install("second", name="same")

        states = {p.origin: p.state for p in catalog.plugins() if p.name == "same"}
        assert states == {"dist-first": State.BROKEN, "dist-second": State.BROKEN}
        with pytest.raises(PluginError, match=r"More than one .* dist-first, dist-second"):
            driver_class("aiflow.operator", "same")

        desk.settings("plugins: {deny: [dist-first]}")
        assert driver_class("aiflow.operator", "same").__module__ == "second.operator"

    def test_a_package_that_is_gone_makes_its_plugin_broken(self, desk: Desk) -> None:
        desk.install("gone")
        for file in (desk.folder / "gone").iterdir():
            file.unlink()
        (desk.folder / "gone").rmdir()

        assert found("gone").problem == "ModuleNotFoundError: No module named 'gone'"

    def test_what_is_installed_meanwhile_is_found(self, desk: Desk) -> None:
        assert not [p for p in catalog.plugins() if p.name == "late"]

        desk.install("late")

        assert found("late").version == "1.0"


class TestAllowAndDeny:
    @pytest.mark.parametrize(
        ("settings", "usable"),
        [
            ("{}", {"one", "two"}),
            ("{deny: ['operator:one']}", {"two"}),
            ("{deny: ['operator:*']}", set()),
            ("{deny: ['executor:*', 'hooks:one']}", {"one", "two"}),
            ("{deny: [dist-one]}", {"two"}),
            ("{allow: [dist-one, 'executor:local']}", {"one"}),
            ("{allow: ['dist-*'], deny: ['*:one']}", {"two"}),
            ("{allow: ['operator:o?e']}", {"one"}),
        ],
    )
    def test_entries_name_kinds_and_distributions(
        self, desk: Desk, settings: str, usable: set[str]
    ) -> None:
        desk.install("one")
        desk.install("two")
        desk.settings(f"plugins: {settings}")

        ours = {p.name for p in catalog.plugins() if p.origin.startswith("dist-")}
        assert ours == {"one", "two"}, "they are all listed"
        assert {n for n in ours if found(n).state is State.LAZY} == usable
        assert {found(n).state for n in ours - usable} <= {State.DISABLED}

    def test_what_is_denied_is_not_imported(self, desk: Desk) -> None:
        desk.install("evil", "raise RuntimeError('imported')")
        desk.settings("plugins: {deny: ['operator:evil']}")

        with pytest.raises(PluginError, match="left out: denied by 'operator:evil'"):
            driver_class("aiflow.operator", "evil")


class TestTheDropInFolder:
    def test_a_file_is_a_plugin_of_the_kind_of_its_folder(self, desk: Desk) -> None:
        desk.drop("operator_plugins/shout_loud.py", OPERATOR.format(name="Shout"))

        plugin = found("shout-loud")

        assert (plugin.state, plugin.origin, plugin.version) == (State.LAZY, "ai_flow_plugins", "")
        assert "ai_flow_plugins.operator_plugins.shout_loud" not in sys.modules
        cls = driver_class("aiflow.operator", "shout-loud")
        assert cls.__module__ == "ai_flow_plugins.operator_plugins.shout_loud"

    def test_a_package_is_one_as_well(self, desk: Desk) -> None:
        desk.drop("job_plugins/deep/__init__.py", "from .inner import Deep\n")
        desk.drop("job_plugins/deep/inner.py", OPERATOR.format(name="Deep"))

        assert driver_class("aiflow.operator", "deep").__name__ == "Deep"

    def test_settings_may_name_its_class_by_path_as_the_manual_does(self, desk: Desk) -> None:
        desk.drop("blob_manager_plugins/mine.py", OPERATOR.format(name="NoBlobs"))

        path = "ai_flow_plugins.blob_manager_plugins.mine.NoBlobs"
        with pytest.raises(PluginError, match="is not a subclass of BlobManager"):
            driver_class("aiflow.blob_manager", path)
        ours = "ai_flow_plugins.blob_manager_plugins.local_blob_manager.LocalBlobManager"
        assert driver_class("aiflow.blob_manager", ours), "the old name of ours is found beside it"

    def test_it_says_for_which_version_it_is(self, desk: Desk) -> None:
        desk.drop("operator_plugins/old.py", 'aiflow_api = "<1"\nraise RuntimeError')

        assert found("old").state is State.MISFIT

    def test_a_file_without_the_one_class_is_refused(self, desk: Desk) -> None:
        both = OPERATOR.format(name="A") + OPERATOR.format(name="B")
        desk.drop("operator_plugins/both.py", both)
        desk.drop("operator_plugins/none.py", "from aiflow_core import Operator\n")

        for name, number in (("both", 2), ("none", 0)):
            with pytest.raises(PluginError, match=f"defines {number} subclasses of Operator"):
                driver_class("aiflow.operator", name)

    def test_other_files_are_none_of_them(self, desk: Desk) -> None:
        for path in ("operator_plugins/_help.py", "operator_plugins/notes.txt", "more/a.py"):
            desk.drop(path, "raise RuntimeError")

        assert not [p for p in catalog.plugins() if p.origin == "ai_flow_plugins"]

    def test_it_can_be_denied_as_a_whole(self, desk: Desk) -> None:
        desk.drop("operator_plugins/shout.py", OPERATOR.format(name="Shout"))
        desk.settings("plugins: {deny: [ai_flow_plugins]}")

        assert found("shout").state is State.DISABLED

    def test_it_does_not_take_the_name_of_one_that_is_installed(self, desk: Desk) -> None:
        desk.drop("operator_plugins/bash.py", OPERATOR.format(name="Bash"))

        with pytest.raises(PluginError, match=r"More than one .* ai_flow_plugins, aiflow-operator"):
            driver_class("aiflow.operator", "bash")
