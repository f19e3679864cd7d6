"""Libraries of Java from Maven's central repository, kept in the cache directory of the user."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_TAGS = ("groupId", "artifactId", "version", "classifier")


def program(name: str) -> str:
    """The path of a program that is needed; `FileNotFoundError` when it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"The server needs {name}, which is not installed.")
    return found


def libraries(name: str, coordinates: Sequence[str]) -> Path:
    """The directory with the libraries and all that they need; `name` tells its version too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "aiflow-tests" / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        draft = Path(directory)
        (draft / "pom.xml").write_text(_pom(coordinates))
        subprocess.run(
            [
                *(program("mvn"), "-q", "-B", "-f", str(draft / "pom.xml")),
                *("dependency:copy-dependencies", f"-DoutputDirectory={draft / 'lib'}"),
            ],
            check=True,
        )
        (draft / "lib").rename(target)
    return target


def _pom(coordinates: Sequence[str]) -> str:
    dependencies = "".join(
        "<dependency>"
        + "".join(
            f"<{tag}>{text}</{tag}>" for tag, text in zip(_TAGS, name.split(":"), strict=False)
        )
        + "</dependency>"
        for name in coordinates
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>aiflow</groupId>"
        "<artifactId>tests</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
