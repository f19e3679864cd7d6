"""What the manual says stays in step with what is there."""

import re
from pathlib import Path

import click
import msgspec
import pytest

from aiflow_core.cli import aiflow
from aiflow_core.config import ClientSettings, ProjectSettings, ServerSettings, Settings
from aiflow_core.model.workflow import TaskConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def commands() -> list[tuple[str, str]]:
    """Group and name of each command; a command without a group has its own name as group."""
    context = click.Context(aiflow)
    found = []
    for name in aiflow.list_commands(context):
        command = aiflow.get_command(context, name)
        found += inside(name, command) if isinstance(command, click.Group) else [(name, name)]
    return found


def inside(path: str, group: click.Group) -> list[tuple[str, str]]:
    """The same of the commands in a group, and in the groups in it."""
    found = []
    for name, command in group.commands.items():
        nested = inside(f"{path} {name}", command) if isinstance(command, click.Group) else []
        found += nested or [(path, name)]
    return found


def test_every_command_is_in_the_reference() -> None:
    lines = (DOCS / "reference" / "cli.md").read_text().splitlines()
    missing = [
        f"aiflow {group} {name}"
        for group, name in commands()
        if not any(f"aiflow {group}" in line and re.search(rf"\b{name}\b", line) for line in lines)
    ]
    assert not missing


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


@pytest.mark.parametrize("example", ["online_ml", "quickstart"])
def test_the_code_that_a_tutorial_shows_is_the_code_of_the_example(example: str) -> None:
    code = (ROOT / "examples" / example / "workflow.py").read_text()
    tutorial = (DOCS / "tutorial" / f"{example.replace('_', '-')}.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", tutorial, re.DOTALL):
        for line in block.splitlines():
            assert line.strip() in code
