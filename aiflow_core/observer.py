"""One who is told and asked: a thread, and a queue of what it has yet to hear."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, Veto
from aiflow_core.model.figures import ObserverFigures

log = logging.getLogger(__name__)

LOOKS = 4
"""A call hangs when it is seen so many times more, in looks that spread over the time limit: a
process that stood still as a whole looks once when it wakes, and not a second time at once."""

# At most so often, in seconds, is it said of an observer that it is slow, or fails.
_SAY_AGAIN = 60.0


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
            return times >= LOOKS

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
