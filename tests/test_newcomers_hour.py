"""The page on writing a plugin, done as it says: its files are written, its commands are run, and
what it shows of their output is there."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .strangers import Stranger, move_in

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "write-a-plugin.md"

# What a newcomer has in his environment. The index of packages is not asked here.
PROGRAMS = {
    "aiflow": 'exec python -m aiflow_core.cli "$@"',
    "pytest": 'exec python -m pytest -p no:cacheprovider "$@"',
    "pip": 'shift; exec uv pip install -q --offline --no-deps --no-build-isolation "$@"',
}


@dataclass(frozen=True)
class Step:
    """A command of the page, and the lines that it shows below it."""

    command: str
    shown: tuple[str, ...]


def steps(text: str) -> Iterator[Step]:
    """The commands of the page in order; a file of the page is written by a command as well."""
    for head, body in re.findall(r"^```(\w+.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if title := re.fullmatch(r'python title="(.+)"', head):
            yield Step(f"cat > {title[1]} <<'END OF FILE'\n{body}END OF FILE", ())
        else:
            assert head == "console", head
            for part in body.split("$ ")[1:] if body.startswith("$ ") else []:
                command, *shown = part.rstrip("\n").split("\n")
                yield Step(command, tuple(shown))


@pytest.fixture
def newcomer(tmp_path: Path) -> Stranger:
    stranger = move_in(tmp_path)
    for name, line in PROGRAMS.items():
        program = stranger.python.parent / name
        program.write_text(f"#!/usr/bin/env bash\n{line}\n")
        program.chmod(0o755)
    return stranger


def test_a_newcomer_writes_a_plugin(newcomer: Stranger) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = list(steps(PAGE.read_text().replace("8000", port)))
    script = "\n".join(f"{step.command}\necho '=== end of step '$?" for step in done)

    outputs = run(newcomer, script)

    assert len(outputs) == len(done) > 15
    for step, (said, code) in zip(done, outputs, strict=True):
        assert code == 0, f"{step.command}: {said}"
        for line in step.shown:
            assert " ".join(line.split()) in " ".join(said.split()), f"{step.command}: {said}"


def run(newcomer: Stranger, script: str) -> list[tuple[str, int]]:
    """What each step says, and its exit code. What is left in the background is ended."""
    bin = newcomer.python.parent
    with (newcomer.folder / "said").open("w+") as said:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=newcomer.folder,
            env={
                **os.environ,
                "PATH": f"{bin}:{os.environ['PATH']}",
                "VIRTUAL_ENV": str(bin.parent),
                "AIFLOW_HOME": str(newcomer.folder / "home"),
            },
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(110)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        said.seek(0)
        parts = re.split(r"=== end of step (\d+)\n", said.read())
    return [(text, int(code)) for text, code in zip(parts[::2], parts[1::2], strict=False)]
