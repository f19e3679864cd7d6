"""Imports the plugins that are chosen, checks them against their contracts, and makes them.

The catalog says which there are and which may be used.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from aiflow_core import catalog, drop_in
from aiflow_core.catalog import CONTRACTS, HOOKS_GROUP, Plugin, State, contract_of, noun_of
from aiflow_core.errors import PluginError, did_you_mean
from aiflow_core.plugin_settings import check_settings

log = logging.getLogger(__name__)


def chosen(group: str, name: str) -> Plugin:
    """The one plugin of that name that may be used; `PluginError` says why there is none."""
    same = [plugin for plugin in catalog.plugins(group) if plugin.name == name]
    kind = noun_of(group)
    if not same:
        names = sorted({plugin.name for plugin in catalog.plugins(group)})
        raise PluginError(
            f"No plugin is the {kind} {name!r}.",
            next_step=f"{did_you_mean(name, names)} A plugin is added with `pip install`.".strip(),
        )
    usable = [plugin for plugin in same if plugin.state is State.LAZY]
    if usable:
        return usable[0]
    doubled = [plugin.origin for plugin in same if plugin.problem == catalog.DOUBLED]
    if doubled:
        raise PluginError(
            f"More than one installed plugin is the {kind} {name!r}: {', '.join(doubled)}.",
            next_step="Uninstall all but one of them, or deny them in `project.yaml`.",
        )
    raise PluginError(
        f"The {kind} {name!r} of {same[0].origin} is left out: {same[0].problem}.",
        next_step=_REMEDIES[same[0].state],
    )


_REMEDIES = {
    State.DISABLED: "The lists `plugins.allow` and `plugins.deny` stand in `project.yaml`.",
    State.MISFIT: "Install a version of it that is for this AIFlow.",
    State.BROKEN: "`aiflow plugins list` shows where it comes from.",
}


def load(plugin: Plugin) -> Any:
    """Import a plugin that was chosen; `PluginError` when it does not load, or is not what its
    group promises."""
    try:
        found = plugin.load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's module may do anything on import
        raise PluginError(
            f"The {noun_of(plugin.group)} {plugin.name!r} does not load: {_text(error)}.",
            next_step="`aiflow plugins list` shows where it comes from.",
        ) from error
    if plugin.group in CONTRACTS:
        _check(plugin.group, plugin.name, found)
    return found


def driver_class(group: str, name: str) -> type:
    """The class of the driver called `name`; also `package.module.Class`, as the manuals allow.

    Only this one plugin is imported. `PluginError` when there is none, when it does not load, or
    when it is not what its group promises.
    """
    if "." not in name:
        cls: type = load(chosen(group, name))
        return cls
    cls = _load_path(name)
    _check(group, name, cls)
    return cls


def make(group: str, name: str, settings: dict[str, Any]) -> Any:
    """The driver called `name`, constructed with its settings as keywords."""
    cls = driver_class(group, name)
    check_settings(f"{noun_of(group)} {name!r}", cls, settings)
    return cls(**settings)


def observers(
    settings: Mapping[str, Mapping[str, Any] | None],
) -> list[tuple[str, object]]:
    """Every observer, by name: modules as they are, and classes made with their settings.

    What stands in a module (`module:Class`) is loaded only when there are settings for its name, be
    they empty. A module that does not load is left out, and the log says so; one that the allow and
    deny lists leave out is not mentioned. `PluginError` when settings are for none, or when one
    that has settings cannot be had with them.
    """
    found: list[tuple[str, object]] = []
    for name in settings:
        found.append((name, _observer(chosen(HOOKS_GROUP, name), settings[name] or {})))
    for plugin in catalog.plugins(HOOKS_GROUP):
        if plugin.name in settings or plugin.entry.attr or plugin.state is State.DISABLED:
            continue
        problem = plugin.problem
        try:
            if not problem:
                found.append((plugin.name, _observer(plugin, {})))
        except PluginError as error:
            problem = error.what
        if problem:
            log.warning("The observer %r is left out: %s", plugin.name, problem)
    return sorted(found, key=lambda one: one[0])


def _observer(plugin: Plugin, settings: Mapping[str, Any]) -> object:
    loaded = load(plugin)
    if isinstance(loaded, type):
        check_settings(f"observer {plugin.name!r}", loaded, dict(settings))
        return loaded(**settings)
    if settings:
        raise PluginError(f"The observer {plugin.name!r} has no settings.")
    return loaded


def _load_path(path: str) -> Any:
    module, _, name = path.rpartition(".")
    drop_in.make_importable()
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
        raise PluginError(
            f"The {noun_of(group)} {name!r} is not a subclass of {contract.__name__}."
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"The {noun_of(group)} {name!r} does not define {', '.join(missing)}.")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
