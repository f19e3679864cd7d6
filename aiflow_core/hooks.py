"""Tells observers what happens, and asks them before it does, see `aiflow_core.hookspecs`.

Each observer has a thread and a bounded queue of its own (`aiflow_core.observer`), so that one who
raises, is slow or hangs hurts nobody: what does not fit into his queue is dropped and counted, and
who does not come back from a call is left out.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pluggy

from aiflow_core import hookspecs
from aiflow_core.clock import Clock
from aiflow_core.config import ObserverSettings
from aiflow_core.errors import PluginError, Veto
from aiflow_core.model.figures import ObserverFigures
from aiflow_core.observer import LOOKS, Call, Observer, Question
from aiflow_core.plugins import observers

log = logging.getLogger(__name__)

_REASON_LENGTH = 2000

# So many seconds the end of the process waits for what observers have yet to hear.
_LAST_WORDS = 5.0


class Hooks:
    """Tells every observer: `hooks.<moment>(**facts)`. Returns at once, and raises nothing.

    The moments `before_...` ask: the call waits for the answers of all observers that listen, at
    most the time limit, and returns the mappings that they gave as one; `Veto` when one refuses.

    Attributes:
        heard: the moments to which somebody listens. Where many facts would have to be gathered,
            look here first.
        settings: how observers are treated.
    """

    def __init__(
        self, settings: ObserverSettings | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings or ObserverSettings()
        self.heard: frozenset[str] = frozenset()
        self._clock = clock or Clock()
        self._observers: list[Observer] = []
        self._listeners: dict[str, tuple[Observer, ...]] = {}
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def register_installed(self, settings: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Let all installed observers listen; those that are classes only with settings for their
        names. `PluginError` when settings name one that is not there, or does not take them."""
        for name, observer in observers(settings):
            try:
                self.register(observer, name)
            except PluginError as error:
                if name in settings:
                    raise
                log.warning("The observer %r is left out: %s", name, error)

    def register(self, observer: object, name: str, *, bounded: bool = True) -> None:
        """Let a module or object listen; in the order of registration they are asked and told.

        `PluginError` when it listens to what is never told, or wants other arguments. Not
        `bounded`: a part of the application itself, which keeps up and must miss nothing.
        """
        calls = _calls(observer, name)
        most = self.settings.queue if bounded else None
        with self._changing:
            self._observers.append(Observer(name, calls, most, self._clock))
            self._gather()
            if bounded and self._watch is None:
                self._watch = threading.Thread(target=self._keep_watch, name="hooks", daemon=True)
                self._watch.start()

    def figures(self) -> dict[str, ObserverFigures]:
        """How the observers keep up, by name."""
        return {observer.name: observer.figures() for observer in self._observers}

    def close(self) -> None:
        """Tell no more. Waits a few seconds for what observers have yet to hear, and not for those
        that hang."""
        self._closed.set()
        for observer in self._observers:
            observer.close()
        deadline = self._clock.monotonic() + _LAST_WORDS
        for observer in self._observers:
            if not observer.has_ended(max(0.0, deadline - self._clock.monotonic())):
                log.warning(
                    "The observer %r has not come to its end: %d calls are dropped",
                    observer.name,
                    observer.leave_out(),
                )

    def look(self) -> None:
        """Leave out who hangs, and say who is slow or fails. Called again and again; one who is
        seen at the same call five times hangs."""
        for observer in self._observers:
            if observer.hangs():
                lost = observer.leave_out()
                log.error(
                    "The observer %r did not return within %g s and is called no more until the "
                    "next start; %d calls that waited for it are dropped",
                    *(observer.name, self.settings.time_limit, lost),
                )
                with self._changing:
                    self._gather()
            observer.say()

    def __getattr__(self, moment: str) -> Callable[..., Any]:
        if moment not in _MOMENTS:
            raise AttributeError(f"There is no hook {moment!r}.")
        return partial(self._ask if moment.startswith("before_") else self._tell, moment)

    def _tell(self, moment: str, **facts: Any) -> None:
        for observer in self._listeners.get(moment, ()):
            observer.take(Call(moment, facts))

    def _ask(self, moment: str, **facts: Any) -> dict[str, str]:
        asked = [(who, Question(moment, facts)) for who in self._listeners.get(moment, ())]
        for observer, question in asked:
            observer.take(question)
        deadline = self._clock.monotonic() + self.settings.time_limit
        answers: dict[str, str] = {}
        for observer, question in asked:
            self._clock.wait(question.answered, max(0.0, deadline - self._clock.monotonic()))
            answers.update(self._answer(observer, question))
        return answers

    def _answer(self, observer: Observer, question: Question) -> Mapping[str, str]:
        match question.answer:
            case Veto() as veto:
                raise Veto(_storable(veto.reason), by=observer.name)
            case None if self.settings.unanswered == "refuse":
                raise Veto("it did not answer", by=observer.name)
            case None:
                log.warning(
                    "The observer %r did not answer at %s, which counts as consent",
                    *(observer.name, question.moment),
                )
                return {}
            case answer:
                return answer

    def _gather(self) -> None:
        """Note who listens to what. One who was left out is asked still where silence refuses."""
        self._listeners = {
            moment: listeners
            for moment in _MOMENTS
            if (listeners := tuple(o for o in self._observers if self._counts(o, moment)))
        }
        self.heard = frozenset(self._listeners)

    def _counts(self, observer: Observer, moment: str) -> bool:
        refuses = moment.startswith("before_") and self.settings.unanswered == "refuse"
        return moment in observer.calls and (refuses or not observer.is_left_out)

    def _keep_watch(self) -> None:
        while not self._clock.wait(self._closed, self.settings.time_limit / LOOKS):
            self.look()


_MOMENTS = [name for name, value in vars(hookspecs).items() if hasattr(value, "aiflow_spec")]


def _calls(observer: object, name: str) -> dict[str, Callable[[dict[str, Any]], object]]:
    """What the observer does at which moment; pluggy knows what is marked, and what fits."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(observer, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise PluginError(f"The observer {name!r} does not fit: {said}.") from error
    return {
        caller.name: partial(_call, implementation)
        for caller in manager.get_hookcallers(observer) or ()
        for implementation in caller.get_hookimpls()
    }


def _call(implementation: pluggy.HookImpl, facts: dict[str, Any]) -> object:
    return implementation.function(*[facts[name] for name in implementation.argnames])


def _storable(reason: str) -> str:
    """Of a reason, what fits beside the status of a task."""
    return reason[:_REASON_LENGTH].encode("utf-8", "backslashreplace").decode()
