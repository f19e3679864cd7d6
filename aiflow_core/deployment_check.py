"""Whether a deployment can be had as its settings say: every plugin is there, loads, and takes its
settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from aiflow_core import catalog
from aiflow_core.app import App
from aiflow_core.catalog import HOOKS_GROUP
from aiflow_core.inspection import TIME_LIMIT, Wanted, look_at


class State(StrEnum):
    """Of a part of the settings. unused: it says something about no plugin that there is."""

    OK = "ok"
    BROKEN = "broken"
    UNUSED = "unused"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the settings, and what is wrong with it."""

    part: str
    plugin: str
    state: State
    problem: str = ""


def checked(time_limit: float = TIME_LIMIT) -> Iterator[Part]:
    """Every plugin that the settings name or imply, then the observers, then the entries of the
    allow and deny lists that mean nothing.

    Plugins are imported in another process and not made: nothing is connected to.
    """
    app = App.configured()
    drivers = app.drivers()
    wanted = [
        Wanted(group=f"aiflow.{kind}", name=driver.type, settings=driver.config)
        for kind, driver in drivers.items()
    ]
    for one, kind, finding in zip(wanted, drivers, look_at(wanted, time_limit), strict=True):
        state = State.BROKEN if finding.problem else State.OK
        yield Part(part=kind, plugin=one.name, state=state, problem=finding.problem)
    # A module listens once it is installed, a class when the settings name it.
    hooks = {
        plugin.name: app.project.hooks.get(plugin.name)
        for plugin in catalog.plugins(HOOKS_GROUP)
        if not plugin.entry.attr and plugin.state is not catalog.State.DISABLED
    } | app.project.hooks
    observers = [
        Wanted(group=HOOKS_GROUP, name=name, settings=settings or {})
        for name, settings in hooks.items()
    ]
    for one, finding in zip(observers, look_at(observers, time_limit), strict=True):
        state = State.BROKEN if finding.problem else State.OK
        yield Part(part="hooks", plugin=one.name, state=state, problem=finding.problem)
    installed = catalog.plugins()
    lists = app.project.plugins
    for name, patterns in (("allow", lists.allow), ("deny", lists.deny)):
        for pattern in patterns:
            if not any(catalog.matches(pattern, plugin) for plugin in installed):
                yield Part(
                    part=f"plugins.{name}",
                    plugin=pattern,
                    state=State.UNUSED,
                    problem="no installed plugin goes by that name",
                )
