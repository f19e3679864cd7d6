"""What the workspace promises about itself, so that no person has to watch over it."""

import subprocess
import tomllib
from configparser import ConfigParser
from importlib.metadata import EntryPoint, version
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest

import aiflow_core
from aiflow_core.catalog import COMMANDS_GROUP, CONTRACTS, HOOKS_GROUP, contract_of
from aiflow_core.specs import API_VERSION

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

TOP_LEVEL = {
    *(".ci", ".gitignore", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("aiflow_core", "bench", "docs", "examples", "noxfile.py", "plugins", "pyproject.toml"),
    *("setup.cfg", "tests"),
}

# The one plugin that may depend on others: the old import names are a facade over them.
FACADE = "compat"

# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
    ]
]


def read_pyproject(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def packages_of(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/py.typed"))


def tracked_files() -> list[Path]:
    """Files in the repository, including those that the next commit would add."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(name) for name in listing.stdout.split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file()]


def entry_points() -> list[Any]:
    return [
        pytest.param(EntryPoint(name, value, group), id=f"{group}:{name}")
        for folder in PLUGINS
        for group, points in read_pyproject(folder)["project"].get("entry-points", {}).items()
        for name, value in points.items()
    ]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
class TestPluginFolder:
    def test_says_the_shared_lines_as_the_core_does(self, folder: Path) -> None:
        core, plugin = read_pyproject(ROOT), read_pyproject(folder)

        assert plugin["build-system"] == core["build-system"]
        for key in ("readme", "requires-python", "license", "dynamic"):
            assert plugin["project"][key] == core["project"][key], key
        assert set(plugin["tool"]) == {"hatch"}, "tools are configured once, at the root"

    def test_takes_its_version_from_the_core(self, folder: Path) -> None:
        plugin = read_pyproject(folder)
        source = folder / plugin["tool"]["hatch"]["version"]["path"]

        assert source.resolve() == ROOT / "aiflow_core" / "__init__.py"
        assert version(plugin["project"]["name"]) == aiflow_core.__version__

    def test_depends_on_the_core_of_its_own_release_series(self, folder: Path) -> None:
        major, minor = map(int, aiflow_core.__version__.split(".")[:2])
        bounds = f">={major}.{minor},<{major}.{minor + 1}"
        siblings = [
            dependency
            for dependency in read_pyproject(folder)["project"]["dependencies"]
            if dependency.startswith("aiflow-")
        ]

        assert siblings[0] in (f"aiflow-core{bounds}", f"aiflow-core[sql]{bounds}")
        assert all(sibling.endswith(bounds) for sibling in siblings)
        assert len(siblings) == 1 or folder.name == FACADE

    def test_has_its_names_from_its_folder(self, folder: Path) -> None:
        assert read_pyproject(folder)["project"]["name"] == f"aiflow-{folder.name}"
        if folder.name != FACADE:
            assert [path.name for path in packages_of(folder)] == [
                f"aiflow_{folder.name.replace('-', '_')}"
            ]

    def test_has_typed_packages_a_manual_and_tests(self, folder: Path) -> None:
        assert packages_of(folder)
        assert (folder / "README.md").read_text().startswith(f"# aiflow-{folder.name}\n")
        assert list(folder.glob("tests/test_*.py"))

    def test_says_for_which_version_of_the_contracts_it_is(self, folder: Path) -> None:
        if "entry-points" in read_pyproject(folder)["project"]:
            (package,) = packages_of(folder)
            expected = f'aiflow_api = ">={API_VERSION},<{API_VERSION + 1}"'
            assert expected in (package / "__init__.py").read_text().splitlines()

    def test_is_under_the_import_contracts(self, folder: Path) -> None:
        contracts = ConfigParser()
        contracts.read(ROOT / "setup.cfg")
        roots = contracts["importlinter"]["root_packages"].split()
        independent = contracts["importlinter:contract:plugins-are-independent"]["modules"].split()

        for package in packages_of(folder):
            assert package.name in roots
            assert package.name in independent or folder.name == FACADE


@pytest.mark.parametrize("entry_point", entry_points())
def test_an_entry_point_is_what_its_group_promises(entry_point: EntryPoint) -> None:
    loaded = entry_point.load()

    if entry_point.group == COMMANDS_GROUP:
        assert isinstance(loaded, click.Command)
    elif entry_point.group == HOOKS_GROUP:
        assert loaded.__doc__
    else:
        assert entry_point.group in CONTRACTS
        assert issubclass(loaded, contract_of(entry_point.group))


def test_every_plugin_that_another_needs_is_taken_from_the_workspace() -> None:
    """uv would look elsewhere for a sibling that is not named among the sources."""
    needed = {
        dependency.partition(">")[0].partition("[")[0]
        for folder in PLUGINS
        for project in [read_pyproject(folder)["project"]]
        for dependency in [
            *project["dependencies"],
            *chain(*project.get("optional-dependencies", {}).values()),
        ]
        if dependency.startswith("aiflow-")
    }

    assert set(read_pyproject(ROOT)["tool"]["uv"]["sources"]) == needed


def test_every_requirement_is_bounded() -> None:
    for folder in (ROOT, *PLUGINS):
        project = read_pyproject(folder)["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in (
            *project["dependencies"],
            *(line for extra in extras for line in extra),
        ):
            assert ">=" in requirement, requirement
            assert ",<" in requirement, requirement


def test_the_top_level_holds_what_was_agreed() -> None:
    assert {path.parts[0] for path in tracked_files()} == TOP_LEVEL


def test_no_file_names_a_package_registry() -> None:
    offenders = [
        f"{path}: {host}"
        for path in tracked_files()
        for host in REGISTRY_HOSTS
        if host.encode() in (ROOT / path).read_bytes()
    ]

    assert not offenders
