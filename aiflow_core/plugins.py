"""Finds plugins by entry point, checks them against their contracts, and makes them.

stevedore chooses the one driver of a name; all that is peculiar about it is handled here and
nowhere else.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from stevedore.driver import DriverManager
from stevedore.exception import MultipleMatches, NoMatches
from stevedore.extension import error_on_conflict

from aiflow_core.errors import PluginError, did_you_mean

T = TypeVar("T")

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One installed plugin, as listed. `problem` says why it cannot be used, empty when it can."""

    kind: str
    name: str
    version: str
    origin: str
    target: str
    problem: str = ""


def contract_of(group: str) -> type:
    """The class that the drivers of a group must subclass."""
    module, name = CONTRACTS[group]
    found: type = getattr(import_module(module), name)
    return found


def driver_class(group: str, name: str) -> type:
    """The class of the driver called `name`; also `package.module.Class`, as the manuals allow.

    Only this one plugin is imported. `PluginError` when there is none, when it does not load, or
    when it is not what its group promises.
    """
    cls = _load_path(name) if "." in name else _load_driver(group, name)
    _check(group, name, cls)
    return cls  # type: ignore[no-any-return]


def make(group: str, name: str, settings: dict[str, Any]) -> Any:
    """The driver called `name`, constructed with its settings as keywords."""
    cls = driver_class(group, name)
    check_settings(f"{_kind(group)} {name!r}", cls, settings)
    return cls(**settings)


def check_settings(what: str, cls: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Raise `PluginError` unless `settings` are keywords that `cls` takes."""
    parameters = inspect.signature(cls).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in settings:
        if key not in parameters and not takes_any:
            raise PluginError(
                f"The {what} has no setting {key!r}.",
                next_step=did_you_mean(key, list(parameters)),
            )
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if required and key not in settings:
            raise PluginError(
                f"The {what} needs the setting {key!r}.", next_step="Add it to its configuration."
            )


def installed() -> list[PluginInfo]:
    """Every installed plugin. Each is loaded to see whether it can be; none stops the listing."""
    found = []
    for group in (*CONTRACTS, HOOKS_GROUP, COMMANDS_GROUP):
        for entry in sorted(entry_points(group=group), key=lambda e: e.name):
            dist = entry.dist
            found.append(
                PluginInfo(
                    kind=_kind(group),
                    name=entry.name,
                    version=dist.version if dist else "",
                    origin=dist.name if dist else "",
                    target=entry.value,
                    problem=_problem(group, entry),
                )
            )
    return found


def observers(
    settings: Mapping[str, Mapping[str, Any] | None],
) -> list[tuple[str, object]]:
    """Every observer, by name: modules as they are, and classes made with their settings.

    What stands in a module (`module:Class`) is loaded only when there are settings for its name, be
    they empty. A module that does not load is left out, and the log says so. `PluginError` when
    settings are for none, or when one that has settings cannot be had with them.
    """
    entries = sorted(entry_points(group=HOOKS_GROUP), key=lambda e: e.name)
    for name in settings:
        if name not in {entry.name for entry in entries}:
            raise PluginError(
                f"No installed plugin is the observer {name!r}.",
                next_step=did_you_mean(name, sorted({entry.name for entry in entries})),
            )
    found: list[tuple[str, object]] = []
    for entry in entries:
        if entry.attr and entry.name not in settings:
            continue
        problem = _problem(HOOKS_GROUP, entry)
        if problem and entry.name in settings:
            raise PluginError(f"The observer {entry.name!r} cannot be used: {problem}.")
        if problem:
            log.warning("The observer %r is left out: %s", entry.name, problem)
            continue
        found.append((entry.name, _observer(entry, settings.get(entry.name) or {})))
    return found


def _observer(entry: EntryPoint, settings: Mapping[str, Any]) -> object:
    loaded = entry.load()
    if isinstance(loaded, type):
        check_settings(f"observer {entry.name!r}", loaded, dict(settings))
        return loaded(**settings)
    if settings:
        raise PluginError(f"The observer {entry.name!r} has no settings.")
    return loaded


def _load_driver(group: str, name: str) -> Any:
    failures: list[BaseException] = []

    def keep(manager: Any, entry: EntryPoint, error: BaseException) -> None:
        failures.append(error)

    try:
        return DriverManager(
            group,
            name,
            invoke_on_load=False,
            on_load_failure_callback=keep,
            on_missing_entrypoints_callback=None,
            conflict_resolver=error_on_conflict,
        ).driver
    except MultipleMatches as error:
        owners = ", ".join(sorted(e.dist.name for e in _entries(group, name) if e.dist))
        raise PluginError(
            f"More than one installed plugin is the {_kind(group)} {name!r}: {owners}.",
            next_step="Uninstall all but one of them.",
        ) from error
    except NoMatches as error:
        if failures:
            raise PluginError(
                f"The {_kind(group)} {name!r} does not load: {_text(failures[0])}.",
                next_step="`aiflow plugins list` shows where it comes from.",
            ) from failures[0]
        names = sorted({e.name for e in entry_points(group=group)})
        raise PluginError(
            f"No plugin is the {_kind(group)} {name!r}.",
            next_step=f"{did_you_mean(name, names)} A plugin is added with `pip install`.".strip(),
        ) from error


def _load_path(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"The class {path!r} does not load: {_text(error)}.",
            next_step="Check the spelling, and that its package is installed.",
        ) from error


def _check(group: str, name: str, found: object) -> None:
    contract = contract_of(group)
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise PluginError(f"The {_kind(group)} {name!r} is not a subclass of {contract.__name__}.")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"The {_kind(group)} {name!r} does not define {', '.join(missing)}.")


def _problem(group: str, entry: EntryPoint) -> str:
    if len(_entries(group, entry.name)) > 1:
        return "another installed plugin has the same name"
    try:
        loaded = entry.load()
        if group in CONTRACTS:
            _check(group, entry.name, loaded)
    except PluginError as error:
        return error.what
    except Exception as error:  # a stranger's module may raise anything while it is imported
        return _text(error)
    return ""


def _entries(group: str, name: str) -> list[EntryPoint]:
    return [e for e in entry_points(group=group) if e.name == name]


def _kind(group: str) -> str:
    return group.removeprefix("aiflow.").replace("_", "-")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
