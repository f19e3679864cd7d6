"""What plugins there are and which of them may be used, without importing any.

A plugin comes in by an entry point of a distribution, or as a file of the drop-in folder. Before it
is used, two things are asked: whether the settings allow it, and whether it was written for the
contracts of this AIFlow. Its package says the latter in one line of its `__init__.py`,

    aiflow_api = ">=1,<2"

which is read, not executed, so that a plugin that would fail on import is left out before it can.
"""

import ast
import functools
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiflow_core import config, drop_in
from aiflow_core.errors import PluginError
from aiflow_core.specs import API_VERSION

HOOKS_GROUP = "aiflow.hooks"
COMMANDS_GROUP = "aiflow.commands"

# Group -> where its contract stands. Contracts are imported when asked for: listing is cheap.
CONTRACTS = {
    "aiflow.event_store": ("aiflow_core.specs.event_store", "EventStore"),
    "aiflow.scheduler": ("aiflow_core.specs.scheduler", "Scheduler"),
    "aiflow.executor": ("aiflow_core.specs.executor", "Executor"),
    "aiflow.operator": ("aiflow_core.specs.operator", "Operator"),
    "aiflow.blob_manager": ("aiflow_core.specs.blob_manager", "BlobManager"),
    "aiflow.endpoint": ("aiflow_core.specs.endpoint", "Endpoint"),
}

GROUPS = (*CONTRACTS, HOOKS_GROUP, COMMANDS_GROUP)

DOUBLED = "another installed plugin has the same name"


class State(StrEnum):
    """What AIFlow does with a plugin.

    loaded: it is in use, or was asked for, and works. lazy: it may be used, and has not been
    looked at. disabled: the settings keep it out. misfit: it is for another version of the
    contracts. broken: it cannot be used.
    """

    LOADED = "loaded"
    LAZY = "lazy"
    DISABLED = "disabled"
    MISFIT = "misfit"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin.

    Attributes:
        version: of its distribution; empty for one of the drop-in folder.
        origin: its distribution, or the name of the drop-in folder.
        api: the versions of AIFlow's contracts for which it is written; empty when it does not say.
        problem: why it cannot be used, empty when it can.
    """

    entry: EntryPoint
    version: str
    origin: str
    api: str = ""
    state: State = State.LAZY
    problem: str = ""

    @property
    def group(self) -> str:
        return self.entry.group

    @property
    def kind(self) -> str:
        return kind_of(self.entry.group)

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def target(self) -> str:
        return self.entry.value

    def load(self) -> Any:
        """Import it. Whatever a stranger's module raises is raised here."""
        if self.origin != drop_in.FOLDER:
            return self.entry.load()
        drop_in.make_importable()
        module = import_module(self.entry.module)
        if self.group == HOOKS_GROUP:
            return module
        contract = contract_of(self.group)
        fitting = drop_in.classes_in(module, contract)
        if len(fitting) != 1:
            raise PluginError(
                f"{drop_in.FOLDER} holds the {self.kind} {self.name!r}, whose module defines "
                f"{len(fitting)} subclasses of {contract.__name__} instead of one."
            )
        return fitting[0]


def plugins(*groups: str) -> list[Plugin]:
    """Every plugin of these groups (of all, when none is given), by group and name. None is
    imported."""
    policy = config.project_settings().plugins
    judged = [_judged(plugin, policy) for plugin in _all() if plugin.group in (groups or GROUPS)]
    names = Counter((p.group, p.name) for p in judged if p.state is State.LAZY)
    return [
        replace(p, state=State.BROKEN, problem=DOUBLED)
        if p.state is State.LAZY and names[p.group, p.name] > 1
        else p
        for p in sorted(judged, key=lambda p: (GROUPS.index(p.group), p.name, p.origin))
    ]


def contract_of(group: str) -> type:
    """The class that the drivers of a group must subclass."""
    module, name = CONTRACTS[group]
    found: type = getattr(import_module(module), name)
    return found


def kind_of(group: str) -> str:
    """The group as users say it: `blob-manager`."""
    return "command" if group == COMMANDS_GROUP else group[len("aiflow.") :].replace("_", "-")


def noun_of(group: str) -> str:
    """What one plugin of the group is called in a sentence."""
    return "observer" if group == HOOKS_GROUP else kind_of(group)


def matches(pattern: str, plugin: Plugin) -> bool:
    """Whether an entry of an allow or deny list means the plugin: `kind:name`, or the name of a
    distribution; `*` and `?` stand for what they do in file names."""
    word = f"{plugin.kind}:{plugin.name}" if ":" in pattern else plugin.origin
    return fnmatchcase(word, pattern)


def _judged(plugin: Plugin, policy: config.PluginSettings) -> Plugin:
    denied = next((pattern for pattern in policy.deny if matches(pattern, plugin)), None)
    if denied is not None:
        return replace(
            plugin, state=State.DISABLED, problem=f"denied by {denied!r} of the settings"
        )
    if policy.allow and not any(matches(pattern, plugin) for pattern in policy.allow):
        return replace(plugin, state=State.DISABLED, problem="not among those that are allowed")
    return plugin


def _all() -> Iterable[Plugin]:
    places = tuple((place, _changed(place)) for place in sys.path)
    dropped = (
        _fitting(Plugin(entry=entry, version="", origin=drop_in.FOLDER), _drop_in_source(entry))
        for entry in drop_in.found()
    )
    return [*_installed(places), *dropped]


@functools.lru_cache(maxsize=1)
def _installed(places: tuple[tuple[str, int], ...]) -> tuple[Plugin, ...]:
    """What is installed in these places; read again when one of them has changed."""
    found = entry_points()
    return tuple(
        _fitting(
            Plugin(
                entry=entry,
                version=entry.dist.version if entry.dist else "",
                origin=entry.dist.name if entry.dist else "",
            ),
            _package_source(entry),
        )
        for group in GROUPS
        for entry in found.select(group=group)
    )


def _changed(place: str) -> int:
    try:
        return os.stat(place or os.curdir).st_mtime_ns
    except OSError:
        return 0


def _fitting(plugin: Plugin, source: Path | str) -> Plugin:
    """The plugin, with what its source says of the versions for which it is written."""
    if isinstance(source, str):
        return replace(plugin, state=State.BROKEN, problem=source)
    try:
        api = _declared(source)
    except ValueError as error:
        return replace(plugin, state=State.BROKEN, problem=f"{source.name}: {error}")
    if not api:
        return plugin
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(api).contains(str(API_VERSION))
    except InvalidSpecifier:
        problem = f"its aiflow_api {api!r} is no range of versions, such as '>=1,<2'"
        return replace(plugin, api=api, state=State.BROKEN, problem=problem)
    if fits:
        return replace(plugin, api=api)
    problem = f"it is for the versions {api} of AIFlow's contracts, and these are {API_VERSION}"
    return replace(plugin, api=api, state=State.MISFIT, problem=problem)


@functools.lru_cache(maxsize=256)
def _declared_at(source: Path, changed: int) -> str:
    try:
        tree = ast.parse(source.read_bytes())
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    for statement in tree.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="aiflow_api")], value=value)
                | ast.AnnAssign(target=ast.Name(id="aiflow_api"), value=value)
            ):
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    return value.value
                raise ValueError("aiflow_api is not a plain string")
    return ""


def _declared(source: Path) -> str:
    """The `aiflow_api` of a module, empty when it has none; `ValueError` when it cannot be read."""
    return _declared_at(source, source.stat().st_mtime_ns) if source.suffix == ".py" else ""


def _package_source(entry: EntryPoint) -> Path | str:
    """The file of the top-level package in which the plugin is, or why there is none. To find that
    one, nothing is imported."""
    package = entry.module.partition(".")[0]
    try:
        spec = find_spec(package)
    except (ImportError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if spec is None:
        return f"ModuleNotFoundError: No module named {package!r}"
    # A namespace package has no file, and so says nothing.
    return Path(spec.origin or os.devnull)


def _drop_in_source(entry: EntryPoint) -> Path:
    _, folder, name = entry.module.split(".")
    source = drop_in.source_of(drop_in.directory() / folder / name)
    assert source is not None, "it was found by this file"
    return source
