"""Observers are told what happens, and cannot hurt."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from aiflow_core import hookspecs
from aiflow_core.config import ObserverSettings
from aiflow_core.deployment import Silence
from aiflow_core.errors import PluginError, Veto
from aiflow_core.hooks import Hooks
from aiflow_core.hookspecs import hook
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, AttemptRequest
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.testing.clock import ManualClock

REQUEST = AttemptRequest(
    key=AttemptKey(workflow_execution_id=1, task_name="t", sequence_number=1),
    namespace="default",
    workflow_name="wf",
    task=TaskDefinition(name="t"),
)

LOOK = 2.5
"""Seconds from one look at the observers to the next, of a time limit of 10 s."""


class Listener:
    """Notes the events that it hears; `gate` can hold it up."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_the_gate = threading.Event()
        self.changed = threading.Condition()

    @hook
    def event_appended(self, event: Event) -> None:
        self.at_the_gate.set()
        self.gate.wait(30)
        with self.changed:
            self.heard.append(event.key)
            self.changed.notify_all()

    def await_heard(self, *keys: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.heard == [*keys], 10), self.heard


class Guard:
    """Says what it is told to say of every attempt."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[AttemptKey] = []

    @hook
    def before_task_start(self, request: AttemptRequest) -> Any:
        self.asked.append(request.key)
        self.gate.wait(30)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hooks(clock: ManualClock) -> Iterator[Hooks]:
    made = Hooks(clock=clock)
    yield made
    made.close()


def made_with(clock: ManualClock, **settings: Any) -> Hooks:
    return Hooks(ObserverSettings(**settings), clock)


def tell(hooks: Hooks, *keys: str) -> None:
    for key in keys:
        hooks.event_appended(event=Event(key), begun_ms=0, decided_ms=0)


def await_failures(hooks: Hooks, name: str, count: int) -> None:
    done = threading.Event()
    for _ in range(1000):
        if hooks.figures()[name].failed == count:
            return
        done.wait(0.01)
    raise AssertionError(hooks.figures())


class TestTelling:
    def test_an_observer_takes_the_facts_that_it_needs_in_order(self, hooks: Hooks) -> None:
        listener = Listener()
        hooks.register(listener, "listener")

        tell(hooks, "a", "b", "c")

        listener.await_heard("a", "b", "c")

    def test_where_nobody_listens_that_can_be_seen(self, hooks: Hooks) -> None:
        assert Silence.heard == hooks.heard == frozenset()

        hooks.register(Listener(), "listener")

        assert hooks.heard == {"event_appended"}

    def test_a_hook_that_there_is_not_is_an_error(self, hooks: Hooks) -> None:
        with pytest.raises(AttributeError, match="no hook 'task_began'"):
            hooks.task_began(task="t")

    def test_an_observer_of_what_is_never_told_is_refused(self, hooks: Hooks) -> None:
        class Deaf:
            @hook
            def task_began(self, task: str) -> None: ...

        with pytest.raises(PluginError, match=r"'deaf' does not fit.*task_began"):
            hooks.register(Deaf(), "deaf")
        assert hooks.figures() == {}

    def test_an_observer_that_wants_other_facts_is_refused(self, hooks: Hooks) -> None:
        class Curious:
            @hook
            def event_appended(self, price: float) -> None: ...

        with pytest.raises(PluginError, match=r"'curious' does not fit.*price"):
            hooks.register(Curious(), "curious")

    def test_each_hook_says_what_it_means(self) -> None:
        for value in vars(hookspecs).values():
            if hasattr(value, "aiflow_spec"):
                assert value.__doc__


class TestFaults:
    def test_one_that_raises_is_named_and_the_others_hear_it_still(
        self, hooks: Hooks, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            @hook
            def event_appended(self, event: Event) -> None:
                raise SystemExit(event.key)

        listener = Listener()
        hooks.register(Broken(), "broken")
        hooks.register(listener, "listener")

        tell(hooks, "a", "b")

        listener.await_heard("a", "b")
        await_failures(hooks, "broken", 2)
        (said,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert said.getMessage() == "The observer 'broken' failed at event_appended: a"
        hooks.look()
        assert "2 failed" in caplog.text

    def test_one_that_is_slow_misses_what_has_no_room_and_nobody_waits(
        self, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        hooks = made_with(clock, queue=2)
        slow, listener = Listener(), Listener()
        slow.gate.clear()
        hooks.register(slow, "slow")
        hooks.register(listener, "listener")
        tell(hooks, "a")
        assert slow.at_the_gate.wait(10)
        listener.await_heard("a")

        for key in ("b", "c", "d", "e"):
            tell(hooks, key)
            listener.await_heard(*"abcde"[: "abcde".index(key) + 1])

        figures = hooks.figures()["slow"]
        assert (figures.waiting, figures.dropped, figures.left_out) == (2, 2, False)
        slow.gate.set()
        slow.await_heard("a", "b", "c")
        hooks.look()
        tell(hooks, "f")
        assert caplog.text.count("2 calls were dropped because it is too slow") == 1
        hooks.close()

    def test_what_is_dropped_is_said_once_in_a_while(
        self, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        hooks = made_with(clock, queue=1)
        slow = Listener()
        slow.gate.clear()
        hooks.register(slow, "slow")
        tell(hooks, "a")
        assert slow.at_the_gate.wait(10)
        tell(hooks, "b", "c")
        hooks.look()
        tell(hooks, "d", "e")
        hooks.look()
        assert caplog.text.count("too slow") == 1

        slow.gate.set()
        slow.await_heard("a", "b")
        clock.advance(60)
        hooks.look()

        assert "2 calls were dropped because it is too slow" in caplog.text
        hooks.close()

    def test_one_that_hangs_is_left_out(
        self, hooks: Hooks, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        hanging, listener = Listener(), Listener()
        hanging.gate.clear()
        hooks.register(hanging, "hanging")
        hooks.register(listener, "listener")
        tell(hooks, "a", "b")
        assert hanging.at_the_gate.wait(10)
        listener.await_heard("a", "b")

        for _ in range(4):
            hooks.look()
        assert not hooks.figures()["hanging"].left_out
        hooks.look()

        figures = hooks.figures()["hanging"]
        assert (figures.left_out, figures.waiting, figures.dropped) == (True, 0, 2)
        assert "'hanging' did not return within 10 s and is called no more" in caplog.text
        tell(hooks, "c")
        listener.await_heard("a", "b", "c")
        hanging.gate.set()
        hanging.await_heard("a")

    def test_hanging_is_noticed_without_being_asked(self, hooks: Hooks, clock: ManualClock) -> None:
        hanging = Listener()
        hanging.gate.clear()
        hooks.register(hanging, "hanging")
        tell(hooks, "a")
        assert hanging.at_the_gate.wait(10)
        asleep = threading.Event()

        for _ in range(1000):
            if hooks.figures()["hanging"].left_out:
                break
            clock.advance(LOOK)
            asleep.wait(0.005)  # while the thread that looks does so

        assert hooks.figures()["hanging"].left_out
        assert hooks.heard == frozenset()
        hanging.gate.set()

    def test_one_that_goes_on_does_not_hang_however_long_it_takes(self, hooks: Hooks) -> None:
        """A look finds it at another call each time."""
        listener = Listener()
        hooks.register(listener, "listener")
        heard: list[str] = []
        for number in range(10):
            listener.gate.clear()
            listener.at_the_gate.clear()
            tell(hooks, str(number))
            assert listener.at_the_gate.wait(10)
            hooks.look()
            listener.gate.set()
            listener.await_heard(*heard, str(number))
            heard.append(str(number))

        assert not hooks.figures()["listener"].left_out

    def test_a_part_of_the_application_misses_nothing(self, clock: ManualClock) -> None:
        hooks = made_with(clock, queue=1)
        own = Listener()
        own.gate.clear()
        hooks.register(own, "own", bounded=False)
        tell(hooks, *"abcdef")
        for _ in range(10):
            hooks.look()

        own.gate.set()

        own.await_heard(*"abcdef")
        hooks.close()


class TestTheEnd:
    def test_what_was_told_before_is_heard(self, hooks: Hooks) -> None:
        listener = Listener()
        hooks.register(listener, "listener")
        tell(hooks, *"abc")

        hooks.close()

        assert listener.heard == [*"abc"]

    def test_it_waits_a_limited_time(
        self, hooks: Hooks, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        slow = Listener()
        slow.gate.clear()
        hooks.register(slow, "slow")
        tell(hooks, "a", "b")
        assert slow.at_the_gate.wait(10)

        closing = threading.Thread(target=hooks.close)
        closing.start()
        while closing.is_alive():
            clock.advance(1)
            closing.join(0.01)

        assert "'slow' has not come to its end: 2 calls are dropped" in caplog.text
        slow.gate.set()


class TestAsking:
    def test_nobody_listens_and_nobody_minds(self, hooks: Hooks) -> None:
        assert hooks.before_task_start(request=REQUEST) == {}
        assert Silence().before_task_start(request=REQUEST) == {}

    def test_the_answers_are_put_together(self, hooks: Hooks) -> None:
        hooks.register(Guard({"A": "1", "B": "1"}), "one")
        hooks.register(Guard(), "two")
        hooks.register(Guard({"B": "3"}), "three")

        assert hooks.before_task_start(request=REQUEST) == {"A": "1", "B": "3"}

    def test_a_refusal_says_who_and_why(self, hooks: Hooks) -> None:
        hooks.register(Guard({"A": "1"}), "one")
        hooks.register(Guard(Veto("the budget is used up.")), "budget")

        with pytest.raises(Veto) as caught:
            hooks.before_task_start(request=REQUEST)

        assert str(caught.value) == "Refused by 'budget': the budget is used up."
        assert (caught.value.reason, caught.value.by) == ("the budget is used up.", "budget")
        assert hooks.figures()["budget"].failed == 0

    def test_a_refusal_can_be_stored_whatever_it_says(self, hooks: Hooks) -> None:
        hooks.register(Guard(Veto("\ud800" + "x" * 10_000)), "guard")

        with pytest.raises(Veto, match=r"^Refused by 'guard': .ud800x{1999}[.]$"):
            hooks.before_task_start(request=REQUEST)

    def test_one_is_asked_after_what_it_was_told_before(self, hooks: Hooks) -> None:
        class Both(Listener):
            @hook
            def before_task_start(self, request: AttemptRequest) -> dict[str, str]:
                return {"HEARD": " ".join(self.heard)}

        hooks.register(Both(), "both")
        tell(hooks, *"abc")

        assert hooks.before_task_start(request=REQUEST) == {"HEARD": "a b c"}

    @pytest.mark.parametrize(
        "answer",
        [ValueError("broken"), {"A": 1}, {"A=B": "1"}, {"A": "\0"}, {"A": "\ud800"}, "A=1", ["A"]],
    )
    def test_what_is_no_answer_counts_as_the_setting_says(
        self, clock: ManualClock, answer: object
    ) -> None:
        consents, refuses = made_with(clock), made_with(clock, unanswered="refuse")
        for hooks in (consents, refuses):
            hooks.register(Guard(answer), "guard")

        assert consents.before_task_start(request=REQUEST) == {}
        with pytest.raises(Veto, match="Refused by 'guard': it did not answer"):
            refuses.before_task_start(request=REQUEST)
        consents.close()
        refuses.close()

    @pytest.mark.parametrize("unanswered", ["consent", "refuse"])
    def test_one_that_hangs_is_not_waited_for_longer_than_the_limit(
        self, clock: ManualClock, unanswered: str
    ) -> None:
        hooks = made_with(clock, unanswered=unanswered)
        hanging = Guard({"A": "1"})
        hanging.gate.clear()
        hooks.register(hanging, "hanging")
        outcomes: list[object] = []

        def ask() -> None:
            try:
                outcomes.append(hooks.before_task_start(request=REQUEST))
            except Veto as veto:
                outcomes.append(str(veto))

        asking = threading.Thread(target=ask)
        asking.start()
        clock.await_waiters(2)
        clock.advance(9.9)
        asking.join(0.05)
        assert asking.is_alive()
        clock.advance(0.2)
        asking.join(10)
        for _ in range(6):
            hooks.look()
        ask()

        # The second time at once: it was left out.
        expected = {} if unanswered == "consent" else "Refused by 'hanging': it did not answer."
        assert outcomes == [expected, expected]
        assert len(hanging.asked) == 1
        hanging.gate.set()
        hooks.close()

    def test_a_refusal_travels_and_comes_back(self) -> None:
        veto = Veto("no", by="guard")

        again = Veto.from_wire(msgspec.json.decode(msgspec.json.encode(veto.to_wire())))

        assert (type(again), str(again)) == (Veto, "Refused by 'guard': no.")
