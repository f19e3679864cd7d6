"""Finds plugins by entry point, checks them against their contracts, and makes them.

stevedore chooses the one driver of a name, pluggy tells every observer. All that is peculiar about
the two is handled here and nowhere else.
"""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy
from stevedore.driver import DriverManager
from stevedore.exception import MultipleMatches, NoMatches
from stevedore.extension import error_on_conflict

from aiflow_core import hookspecs
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


class Hooks:
    """Tells every observer: `hooks.<moment>(**facts)`, see `aiflow_core.hookspecs`.

    What an observer raises is logged with its name and goes no further.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for entry in entry_points(group=HOOKS_GROUP):
            problem = _problem(HOOKS_GROUP, entry)
            if problem:
                log.warning("The observer %r is left out: %s", entry.name, problem)
            else:
                self.register(entry.load(), entry.name)

    def register(self, observer: object, name: str) -> None:
        """Let a module or object listen. `PluginError` when it listens to what is never told."""
        self._manager.register(observer, name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(observer)
            raise PluginError(f"The observer {name!r} does not fit: {error}.") from error

    def __getattr__(self, moment: str) -> Callable[..., None]:
        caller = getattr(self._manager.hook, moment)

        def tell(**facts: Any) -> None:
            # One by one: pluggy itself would let the first exception keep the rest from listening.
            for implementation in caller.get_hookimpls():
                wanted = {name: facts[name] for name in implementation.argnames}
                try:
                    implementation.function(**wanted)
                except Exception:
                    log.exception(
                        "The observer %r failed at %s", implementation.plugin_name, moment
                    )

        return tell


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
