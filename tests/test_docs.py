"""What the manual says stays in step with what is there."""

import re
from pathlib import Path

import msgspec
import pytest

from aiflow_core.config import ClientSettings, ProjectSettings, ServerSettings, Settings
from aiflow_core.model.workflow import TaskConfig

from .blocks import codes
from .reference import pages

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


@pytest.mark.parametrize("page", ["cli.md", "api.md"])
def test_a_page_that_follows_from_the_code_does(page: str) -> None:
    path = DOCS / "reference" / page
    assert path.read_text() == pages()[path], "run `nox -s reference`"


@pytest.mark.parametrize("settings", [ServerSettings, ClientSettings, ProjectSettings])
def test_every_setting_is_in_the_reference(settings: type[Settings]) -> None:
    text = (DOCS / "reference" / "configuration.md").read_text()
    missing = [f.name for f in msgspec.structs.fields(settings) if f"`{f.name}`" not in text]
    assert not missing


def test_every_option_of_a_task_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "rules.md").read_text()
    assert not [name for name in TaskConfig.__struct_fields__ if f"`{name}`" not in text]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert not [
        page
        for page in pages
        if f"- {page}" not in navigation and not re.match(r"changelog/\d", page)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize(
    ("page", "example"),
    [
        ("README.md", "online_ml"),
        ("tutorial/online-ml.md", "online_ml"),
        ("tutorial/quickstart.md", "quickstart"),
    ],
)
def test_the_code_that_a_page_shows_is_the_code_of_the_example(page: str, example: str) -> None:
    code = (ROOT / "examples" / example / "workflow.py").read_text()
    for block in codes(page, "python"):
        for line in block.splitlines():
            assert line.strip() in code
