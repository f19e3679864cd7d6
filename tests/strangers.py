"""An environment of somebody else's, in which AIFlow is installed as well."""

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stranger:
    """Somebody with a virtual environment and files of his own, outside of this tree.

    Attributes:
        folder: where his files are, and where commands run.
        environment: of every command.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`python -m ...`, which must end with that exit code."""
        done = subprocess.run(
            [str(self.python), "-m", *words],
            env={**os.environ, "AIFLOW_HOME": str(self.folder / "home"), **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    def aiflow(self, *words: str, code: int = 0) -> str:
        return self.run("aiflow_core.cli", *words, code=code).stdout

    def rows(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """What a command that lists something prints."""
        rows: list[dict[str, Any]] = json.loads(self.aiflow(*words, "-o", "json", code=code))
        return rows

    def install(self, *projects: Path) -> None:
        for project in projects:
            uv(
                *("pip", "install", "--python", str(self.python), "--offline"),
                *("--no-deps", "--no-build-isolation", "--editable", str(project)),
            )

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


def move_in(folder: Path) -> Stranger:
    """Make the environment in a folder. What this one holds is visible in it."""
    venv = folder / "venv"
    uv("venv", str(venv), "--python", str(Path(sysconfig.get_path("scripts")) / "python"))
    (site_packages,) = venv.glob("lib/*/site-packages")
    here = sysconfig.get_path("purelib")
    (site_packages / "aiflow.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return Stranger(folder)


def uv(*words: str) -> None:
    subprocess.run(["uv", *words, "--quiet"], check=True, timeout=60)
