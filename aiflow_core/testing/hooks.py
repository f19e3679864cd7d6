"""The contract suite of observers."""

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pluggy

from aiflow_core import hookspecs
from aiflow_core.catalog import HOOKS_GROUP


class ObserverContract:
    """What every observer must do. Subclass it as `Test...` and name the observer.

    Attributes:
        name: under which it is installed.
        observer: what its entry point names: a module, or a class.
    """

    name: str
    observer: object

    def heard(self) -> dict[str, Callable[..., Any]]:
        """The moments to which it listens, and its functions."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        moments = {
            name: function
            for name, function in inspect.getmembers(self.observer, callable)
            if manager.parse_hookimpl_opts(self.observer, name) is not None
        }
        return moments

    def test_it_listens_to_something(self) -> None:
        assert self.heard(), "decorate functions with `aiflow_core.hookspecs.hook`"

    def test_it_listens_only_to_what_is_told(self) -> None:
        unknown = [name for name in self.heard() if not hasattr(hookspecs, name)]

        assert not unknown, "there are no such moments"

    def test_it_takes_only_the_arguments_that_a_moment_has(self) -> None:
        for name, function in self.heard().items():
            told = set(inspect.signature(getattr(hookspecs, name)).parameters)
            wanted = set(inspect.signature(function).parameters) - {"self"}

            assert wanted <= told, f"{name} tells {', '.join(sorted(told))}"

    def test_it_is_found_by_the_name_under_which_it_is_installed(self) -> None:
        (entry,) = entry_points(group=HOOKS_GROUP, name=self.name)

        assert entry.load() is self.observer
