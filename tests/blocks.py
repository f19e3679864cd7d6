"""The fenced blocks of the manual's pages, for the tests that execute them.

A block that nobody executes has a comment right above it that says why:

    <!-- not executed: it asks the index of packages -->

The comment does not show on the page.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from .reference import MARK

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>\w*) *(?P<title>[^\n]*)\n"
    r"(?P<code>.*?)^(?P=indent)(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r'title="(.+?\.\w+)"')
_REASON = re.compile(r"<!-- not executed: (.+?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its path from `docs/`; `README.md` is that of the repository.
        line: the line of its opening fence.
        language: the first word behind the fence; empty when there is none.
        file: the file that it is, by the `title="..."` behind the language; mostly empty.
        code: what it holds, not indented.
        reason: why nobody executes it; empty when somebody has to.
    """

    page: str
    line: int
    language: str
    file: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page, or those in one language, in order.

    What follows from the code (`tests/reference.py`) is left out: it is compared with that.
    """
    path = ROOT / page if page == "README.md" else DOCS / page
    text = path.read_text().partition(MARK)[0]
    found = [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            file=file[1] if (file := _FILE.search(match["title"])) else "",
            code=textwrap.dedent(match["code"]),
            reason=reason[1] if (reason := _REASON.search(text[: match.start()])) else "",
        )
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if language in (None, block.language)]


def codes(page: str, language: str) -> list[str]:
    """What the blocks of a page in a language hold; those that nobody executes are left out."""
    return [block.code for block in blocks(page, language) if not block.reason]


def name_of(page: Path) -> str:
    """The `page` of the blocks of a file."""
    return "README.md" if page == ROOT / "README.md" else str(page.relative_to(DOCS))
