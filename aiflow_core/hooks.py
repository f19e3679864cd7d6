"""Tells observers what happens, and asks them before it does, see `aiflow_core.hookspecs`.

Each observer has a thread and a bounded queue of its own, so that one who raises, is slow or hangs
hurts nobody: what does not fit into his queue is dropped and counted, and who does not come back
from a call is left out.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pluggy

from aiflow_core import hookspecs
from aiflow_core.clock import Clock
from aiflow_core.config import ObserverSettings
from aiflow_core.errors import AIFlowError, PluginError, Veto
from aiflow_core.model.figures import ObserverFigures
from aiflow_core.plugins import observers

log = logging.getLogger(__name__)

# A call hangs when it is seen so many times more, in looks that spread over the time limit: a
# process that stood still as a whole looks once when it wakes, and not a second time at once.
_LOOKS = 4

# At most so often, in seconds, is it said of an observer that it is slow, or fails.
_SAY_AGAIN = 60.0

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

    def _answer(self, observer: "Observer", question: "Question") -> Mapping[str, str]:
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

    def _counts(self, observer: "Observer", moment: str) -> bool:
        refuses = moment.startswith("before_") and self.settings.unanswered == "refuse"
        return moment in observer.calls and (refuses or not observer.is_left_out)

    def _keep_watch(self) -> None:
        while not self._clock.wait(self._closed, self.settings.time_limit / _LOOKS):
            self.look()


@dataclass(slots=True)
class Call:
    """Something that an observer is to be told."""

    moment: str
    facts: dict[str, Any]

    def end(self, result: object) -> None:
        """It was told; nobody waits for what comes of it."""


@dataclass(slots=True)
class Question(Call):
    """Something that an observer is asked.

    Attributes:
        answered: set when there will be no other answer.
        answer: what it gave, or its refusal; None when it gave no answer.
    """

    answered: threading.Event = field(default_factory=threading.Event)
    answer: Mapping[str, str] | Veto | None = None

    def end(self, result: object) -> None:
        """What the observer returned or raised."""
        match result:
            case Veto():
                self.answer = result
            case None:
                self.answer = {}
            case Mapping() if all(map(_is_variable, result.items())):
                self.answer = result
            case BaseException():
                pass  # has been said
            case _:
                log.error("An observer answered %s with %r", self.moment, result)
        self.answered.set()


class Observer:
    """One who listens, in a thread of its own that begins with the first call.

    Attributes:
        calls: what is called at which moment, with the facts.
    """

    def __init__(
        self,
        name: str,
        calls: Mapping[str, Callable[[dict[str, Any]], object]],
        most: int | None,
        clock: Clock,
    ) -> None:
        """`most` calls may wait; None: any number, and it may take as long as it likes."""
        self.name = name
        self.calls = calls
        self.is_left_out = False
        self._most = most
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Call] = deque()
        self._current: Call | None = None
        self._seen: tuple[Call | None, int] = (None, 0)
        self._dropped = 0
        self._failed = 0
        self._said = (0, 0)
        self._say_at = 0.0
        self._is_closing = False
        self._ended: threading.Event | None = None

    def take(self, call: Call) -> None:
        """Let it be called, some time soon; or, when there is no room, count that it was not."""
        with self._changed:
            if self.is_left_out or self._is_closing or len(self._waiting) == self._most:
                self._dropped += 1
                dropped: Call | None = call
            else:
                self._waiting.append(call)
                dropped = None
                if self._ended is None:
                    self._begin()
                self._changed.notify_all()
        if isinstance(dropped, Question):
            dropped.answered.set()

    def figures(self) -> ObserverFigures:
        """How it keeps up."""
        with self._changed:
            return ObserverFigures(
                waiting=len(self._waiting),
                dropped=self._dropped,
                failed=self._failed,
                left_out=self.is_left_out,
            )

    def hangs(self) -> bool:
        """Whether it was at one and the same call every time that this was asked lately."""
        with self._changed:
            if self._current is None or self._most is None or self.is_left_out:
                return False
            seen, times = self._seen
            times = times + 1 if seen is self._current else 0
            self._seen = (self._current, times)
            return times >= _LOOKS

    def leave_out(self) -> int:
        """Call it no more; how many calls are dropped for that."""
        with self._changed:
            self.is_left_out = True
            left = [*([self._current] if self._current else []), *self._waiting]
            self._waiting.clear()
            self._dropped += len(left)
            self._changed.notify_all()
        for call in left:
            if isinstance(call, Question):
                call.answered.set()
        return len(left)

    def say(self) -> None:
        """Let the log know of calls that were dropped and that failed since the last time."""
        now = self._clock.monotonic()
        with self._changed:
            counts = (self._dropped, self._failed)
            dropped, failed = (now - then for now, then in zip(counts, self._said, strict=True))
            if now < self._say_at or not (dropped or failed):
                return
            self._say_at = now + _SAY_AGAIN
            self._said = counts
        log.warning(
            "The observer %r: %d calls were dropped because it is too slow, %d failed",
            *(self.name, dropped, failed),
        )

    def close(self) -> None:
        """Take no more calls; those that wait are made."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def has_ended(self, timeout: float) -> bool:
        """Whether the last call is made, waiting for that at most `timeout` seconds; an observer
        that was left out is not waited for."""
        return self._ended is None or self.is_left_out or self._clock.wait(self._ended, timeout)

    def _begin(self) -> None:
        self._ended = threading.Event()
        name = f"observer-{self.name}"
        threading.Thread(target=self._run, args=(self._ended,), name=name, daemon=True).start()

    def _run(self, ended: threading.Event) -> None:
        while (call := self._next()) is not None:
            try:
                result: object = self.calls[call.moment](call.facts)
            except Veto as veto:
                result = veto
            except BaseException as error:  # it must not end the thread, whatever it is
                result = error
                self._note_failure(call, error)
            call.end(result)
        ended.set()

    def _next(self) -> Call | None:
        """The next call to be made, None when there are to be no more."""
        with self._changed:
            self._current = None
            self._changed.wait_for(lambda: self._waiting or self._is_closing or self.is_left_out)
            if not self._waiting:
                return None
            self._current = self._waiting.popleft()
            return self._current

    def _note_failure(self, call: Call, error: BaseException) -> None:
        with self._changed:
            self._failed += 1
            is_first = self._failed - self._said[1] == 1
        if is_first:  # of those that follow, only the number is said
            log.error(
                "The observer %r failed at %s: %s",
                *(self.name, call.moment, error),
                exc_info=None if isinstance(error, AIFlowError) else error,
            )


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


def _is_variable(item: tuple[Any, Any]) -> bool:
    """Whether it can stand in an environment."""
    name, value = item
    if not (isinstance(name, str) and isinstance(value, str)):
        return False
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and "=" not in name and "\0" not in name + value
