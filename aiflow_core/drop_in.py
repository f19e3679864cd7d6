"""The drop-in folder: plugins that are files of `<AIFLOW_HOME>/ai_flow_plugins`, for development.

A file `<kind>_plugins/<name>.py` in it, or a package `<kind>_plugins/<name>/`, is one plugin. It is
imported as `ai_flow_plugins.<kind>_plugins.<name>`, which is also how workflow files and settings
may name what is in it, and defines one class that fulfils the contract of its kind; an observer is
the module itself. Nothing is imported before it is chosen.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

FOLDER = "ai_flow_plugins"

# What the folder of a kind is called -> the group of its plugins.
FOLDERS = {
    "scheduler_plugins": "aiflow.scheduler",
    "job_plugins": "aiflow.operator",
    "operator_plugins": "aiflow.operator",
    "blob_manager_plugins": "aiflow.blob_manager",
    "event_store_plugins": "aiflow.event_store",
    "executor_plugins": "aiflow.executor",
    "endpoint_plugins": "aiflow.endpoint",
    "hooks_plugins": "aiflow.hooks",
}


def directory() -> Path:
    """The folder of this deployment; it need not exist."""
    from aiflow_core import config  # late: the processes of tasks start faster without

    return config.home() / FOLDER


def found() -> "Iterator[EntryPoint]":
    """What is in the folder, as if it were installed."""
    from importlib.metadata import EntryPoint  # late, for the same reason

    for folder, group in FOLDERS.items():
        place = directory() / folder
        if not place.is_dir():
            continue
        for file in sorted(place.iterdir()):
            if file.stem.isidentifier() and not file.stem.startswith("_") and source_of(file):
                name = file.stem.replace("_", "-")
                yield EntryPoint(name, f"{FOLDER}.{folder}.{file.stem}", group)


def source_of(place: Path) -> Path | None:
    """The file that is executed when what stands at this place is imported, None when nothing
    is."""
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def make_importable() -> None:
    """Let the modules of the folder be imported in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Last: an installed package of the same name goes before, and is added to.
        sys.meta_path.append(_Finder())


def classes_in(module: ModuleType, contract: type) -> list[type]:
    """The classes that a module defines itself, subpackages included, and that fulfil a
    contract."""
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [
        cls
        for cls in classes
        if issubclass(cls, contract) and f"{cls.__module__}.".startswith(f"{module.__name__}.")
    ]


class _Finder:
    """Finds modules of the folder."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        head, *parts = fullname.split(".")
        if head != FOLDER:
            return None
        place = directory().joinpath(*parts)
        file = source_of(place) if parts else None
        if file is not None:
            within = [str(place)] if file.name == "__init__.py" else None
            return spec_from_file_location(fullname, file, submodule_search_locations=within)
        if not place.is_dir():
            return None
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
        return spec
