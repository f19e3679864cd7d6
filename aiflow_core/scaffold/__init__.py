"""`aiflow plugin new`: a distribution of somebody's own, with what is theirs to write left open.

The files under `templates` are what comes out, but for `$names`, the suffix `.in`, and the names of
directories: `package` becomes the import package, `dot-x` becomes `.x`. Those of `common` go into
every distribution, the others into one of their kind. What is to be written is marked `FILL IN`.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import metadata
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template

from aiflow_core.catalog import plugins
from aiflow_core.errors import ConflictError, UsageError, did_you_mean
from aiflow_core.specs import API_VERSION

MARK = "FILL IN"

# Kind -> the module of the package in which it stands, and what its class is called.
KINDS = {
    "operator": ("operator", "Operator"),
    "executor": ("executor", "Executor"),
    "blob-manager": ("blob_manager", "BlobManager"),
    "event-store": ("event_store", "EventStore"),
    "scheduler": ("scheduler", "Scheduler"),
    "hooks": ("hooks", ""),
}

_LONGEST_NAME = 50


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """What was made.

    Attributes:
        directory: where it stands.
        files: paths in it, in order.
        to_fill_in: those in which something is left to be written.
    """

    directory: Path
    distribution: str
    files: tuple[Path, ...]
    to_fill_in: tuple[Path, ...]


def new_plugin(kind: str, name: str, directory: str | Path | None = None) -> NewPlugin:
    """Write a new distribution with one plugin.

    `UsageError` when there is no such kind or the name is none for a plugin, `ConflictError` when
    the directory exists and is not empty, or a plugin of that kind and name is installed.

    Args:
        directory: made if missing; unless given, named as the distribution, in the working
            directory.
    """
    words = _words(kind, name)
    for plugin in plugins(words["group"]):
        if plugin.name == name:
            raise ConflictError(
                f"The {kind} {name!r} is installed already, by {plugin.origin}.",
                next_step="Choose another name, or two plugins would be in each other's way.",
            )
    target = Path(directory) if directory is not None else Path(words["distribution"])
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConflictError(
                f"{target} exists already, and nothing in it is overwritten.",
                next_step="Choose another place with --directory, or delete it.",
            )
        files = dict(_rendered(kind, words))
        for path, text in files.items():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}.",
            next_step="Choose another place with --directory.",
        ) from error
    return NewPlugin(
        directory=target,
        distribution=words["distribution"],
        files=tuple(map(Path, files)),
        to_fill_in=tuple(Path(path) for path, text in files.items() if MARK in text),
    )


def _words(kind: str, name: str) -> dict[str, str]:
    """What the `$names` in the templates stand for."""
    if kind not in KINDS:
        raise UsageError(
            f"There is no kind of plugin {kind!r}.", next_step=did_you_mean(kind, list(KINDS))
        )
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > _LONGEST_NAME:
        raise UsageError(
            f"{name!r} is no name for a plugin: it begins with a lower-case letter, and lower-case "
            f"letters and digits follow, with single hyphens between; {_LONGEST_NAME} characters "
            "at most.",
            next_step=_better(name),
        )
    module, suffix = KINDS[kind]
    distribution = f"aiflow-{kind}-{name}"
    package = distribution.replace("-", "_")
    class_name = "".join(part.capitalize() for part in name.split("-")) + suffix
    version = metadata("aiflow-core")["Version"].split(".")
    return {
        "kind": kind,
        "name": name,
        "distribution": distribution,
        "package": package,
        "class_name": class_name,
        "group": f"aiflow.{kind.replace('-', '_')}",
        "target": f"{package}.{module}:{class_name}" if suffix else f"{package}.{module}",
        "core": f">={version[0]}.{version[1]},<{version[0]}.{int(version[1]) + 1}",
        "api": f">={API_VERSION},<{API_VERSION + 1}",
        "python": metadata("aiflow-core")["Requires-Python"],
    }


def _better(name: str) -> str:
    near = "-".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()))
    near = near.lstrip("0123456789-")[:_LONGEST_NAME].rstrip("-")
    return f"Perhaps {near!r}?" if near and not keyword.iskeyword(near) else ""


def _rendered(kind: str, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Path and text of each file of a new distribution."""
    templates = resources.files(__name__) / "templates"
    for folder in ("common", kind):
        for parts, file in _files(templates / folder):
            path = PurePosixPath(*(_directory(part, words) for part in parts))
            text = file.read_text(encoding="utf-8")
            yield str(path).removesuffix(".in"), Template(text).substitute(words)


def _files(
    folder: Traversable, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        parts = (*above, child.name)
        if child.is_dir():
            yield from _files(child, parts)
        elif child.name.endswith(".in"):
            yield parts, child


def _directory(part: str, words: dict[str, str]) -> str:
    if part == "package":
        return words["package"]
    return f".{part.removeprefix('dot-')}" if part.startswith("dot-") else part
