"""Each row of `docs/reference/event-algebra.md`, on the engine alone, in virtual time."""

import json
from typing import Any

import msgspec
import pytest

from aiflow_core.errors import DefinitionError
from aiflow_core.model.algebra import (
    Pattern,
    absent,
    all_of,
    any_of,
    batch,
    count,
    debounce,
    each,
    event,
    sequence,
    throttle,
)
from aiflow_core.model.event import Event
from aiflow_core.model.payload import gt
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TaskStatus
from aiflow_scheduler_event import patterns
from aiflow_scheduler_event.commands import (
    DeleteTriggers,
    EnableWorkflow,
    PauseTrigger,
    RedriveDeadLetters,
    Redriven,
)
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Scope, ScopeKind

from .play import (
    RESTART,
    START,
    STOP,
    Play,
    Refused,
    after,
    met,
    on,
    task,
)
from .rows import row


class Rule(Play):
    """An execution with a task `actor` that a pattern starts, and that ends at once.

    What a match holds is shown by the values of its events, `a1` for the first with key `a`.
    """

    def __init__(self, pattern: Pattern, action: TaskAction = START, *, ends: bool = True) -> None:
        super().__init__(task("anchor"), task("actor", met(action, pattern)))
        self.start()
        self.ends = ends
        self.starts = 0
        self._sent: dict[str, int] = {}

    def come(self, *keys: str, **fields: Any) -> list[str]:
        """Let events come, one millisecond apart; the matches that they lead to."""
        found = []
        for key in keys:
            self._sent[key] = self._sent.get(key, 0) + 1
            value = json.dumps({"name": f"{key}{self._sent[key]}", **fields})
            self.send(key, value)
            found += self.matches()
            self.now += 1
        return found

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; the matches that it leads to."""
        self.pass_time(seconds)
        return self.matches()

    def matches(self) -> list[str]:
        """The matches that have acted since the last time."""
        found = []
        while True:
            requests = [
                entry.message.request  # type: ignore[union-attr]
                for entry in self.outbox
                if type(entry.message).__name__ == "Submit"
                and entry.message.request.key.task_name == "actor"  # type: ignore[union-attr]
            ]
            new = requests[self.starts :]
            if not new:
                return found
            for request in new:
                found.append(names(request.events))
                self.starts += 1
                if self.ends:
                    self.succeed("actor")

    def restart_server(self) -> None:
        """Go on from what is stored, as after a crash."""
        self.state.states = {
            scope: {name: decode(encode(s), type(s)) for name, s in kept.items()}
            for scope, kept in self.state.states.items()
        }
        self.engine = Engine(self.state)


def names(events: tuple[Event, ...]) -> str:
    return " ".join(e.payload["name"] for e in events)


@row("Conditions", "`action_on_condition(action, pattern)`")
class TestEvents:
    def test_each_event_with_the_key_is_a_match(self) -> None:
        assert Rule(event("a")).come("a", "b", "a") == ["a1", "a2"]

    def test_a_key_may_have_wildcards(self) -> None:
        assert Rule(event("file.*")).come("file.1", "file", "file.2") == ["file.11", "file.21"]

    def test_only_what_passes_all_tests_is_a_match(self) -> None:
        rule = Rule(event("a").where({"value.rows": gt(100)}, status="ok"))
        assert rule.come("a", rows=101, status="ok") == ["a1"]
        assert rule.come("a", rows=100, status="ok") == []
        assert rule.come("a", rows=101, status="bad") == []
        assert rule.come("a", rows=101) == []

    def test_a_value_that_is_no_json_has_no_fields(self) -> None:
        rule = Rule(event("a").where(status="ok"))
        rule.send("a", "status=ok")
        rule.send("a")
        assert rule.matches() == []

    def test_statuses_are_heard_under_their_keys(self) -> None:
        play = Play(
            task("first"),
            task("anchor"),
            task(
                "actor",
                met(START, event("task_status.flow.first").where({"value": "FAILED"})),
            ),
        )
        play.start()
        play.fail("first")
        assert play.count("actor") == 1

    def test_no_other_namespace_is_heard(self) -> None:
        rule = Rule(count(event("a"), 2))
        rule.add_namespace("other")
        rule.send("a", namespace="other")
        assert rule.come("a") == []
        assert rule.come("a") == ["a1 a2"]

    def test_an_event_for_one_execution_is_heard_by_no_other(self) -> None:
        play = Play(task("anchor"), task("actor", met(START, count(event("a"), 2))))
        first, second = play.start(), play.start()
        play.send("a", only=first)
        play.send("a")
        assert play.count("actor", first) == 1
        with pytest.raises(AssertionError):
            play.task("actor", second)


class TestAllOf:
    def test_it_is_met_when_each_part_has_been_and_then_starts_anew(self) -> None:
        rule = Rule(all_of(event("a"), event("b")))
        assert rule.come("b", "a", "a", "a", "b") == ["b1 a1", "a2 a3 b2"]

    @pytest.mark.parametrize(
        ("consume", "expected"),
        [
            ("all", ["a1 a2 b1", "a3 b2"]),
            ("latest", ["a2 b1", "a3 b2"]),
            ("first", ["a1 b1", "a2 b2"]),
        ],
    )
    def test_a_match_takes_all_the_latest_or_the_first(
        self, consume: str, expected: list[str]
    ) -> None:
        rule = Rule(all_of(event("a"), event("b"), consume=consume))
        assert rule.come("a", "a", "b", "a", "b") == expected

    def test_events_further_apart_than_the_window_make_no_match(self) -> None:
        rule = Rule(all_of(event("a"), event("b"), within=60))
        rule.come("a")
        rule.wait(59.999)
        assert rule.come("b") == ["a1 b1"]
        rule.come("a")
        rule.wait(60)
        assert rule.come("b") == []
        assert rule.come("a") == ["b2 a3"]

    def test_what_differs_in_by_has_nothing_to_do_with_each_other(self) -> None:
        rule = Rule(all_of(event("a"), event("b"), by="value.day"))
        assert rule.come("a", day=1) == rule.come("b", day=2) == []
        assert rule.come("b", day=1.0) == ["a1 b2"]
        assert rule.come("a", day="2") == []
        assert rule.come("a", day=2) == ["b1 a3"]
        assert rule.come("a", "b") == []

    def test_an_event_counts_for_every_part_that_it_matches(self) -> None:
        assert Rule(all_of(event("*"), event("a"))).come("b", "a") == ["b1 a1"]


class TestAnyOf:
    def test_it_is_met_by_each_part_and_once_by_the_same_events(self) -> None:
        rule = Rule(any_of(event("a"), event("*a"), count(event("b"), 2)))
        assert rule.come("a", "b", "b") == ["a1", "b1 b2"]


class TestSequence:
    def test_the_order_matters_and_others_may_come_between(self) -> None:
        rule = Rule(sequence(event("a"), event("b"), event("c")))
        assert rule.come("c", "b", "a", "x", "b", "a", "c") == ["a1 b2 c2"]

    @pytest.mark.parametrize(
        ("consume", "expected"),
        [
            ("all", ["a1 a2 b1 b2 c1"]),
            ("latest", ["a2 b1 c1"]),
            ("first", ["a1 b1 c1", "a2 b2 c2"]),
        ],
    )
    def test_a_match_takes_all_the_latest_or_the_first(
        self, consume: str, expected: list[str]
    ) -> None:
        rule = Rule(sequence(event("a"), event("b"), event("c"), consume=consume))
        assert rule.come("a", "a", "b", "b", "c", "c")[: len(expected)] == expected

    def test_an_event_goes_to_one_part_only(self) -> None:
        assert Rule(sequence(event("a"), event("a"))).come("a", "a", "a") == ["a1 a2"]

    def test_the_window_begins_with_the_first_event(self) -> None:
        rule = Rule(sequence(event("a"), event("b"), within=10))
        rule.come("a")
        rule.wait(10)
        assert rule.come("b", "a", "b") == ["a2 b2"]


class TestCount:
    def test_it_is_met_by_every_nth(self) -> None:
        assert Rule(count(event("a"), 3)).come(*"aaaaaaa") == ["a1 a2 a3", "a4 a5 a6"]

    def test_only_what_lies_within_the_window_counts(self) -> None:
        rule = Rule(count(event("a"), 2, within=10))
        rule.come("a")
        rule.wait(10)
        assert rule.come("a", "a") == ["a2 a3"]

    def test_what_was_counted_already_does_not_count(self) -> None:
        rule = Rule(count(event("a"), 2, by="value.hour", distinct="value.minute"))
        assert rule.come("a", hour=1, minute=0) == []
        assert rule.come("a", hour=1, minute=0) == []
        assert rule.come("a", hour=2, minute=1) == []
        assert rule.come("a", hour=1) == []
        assert rule.come("a", hour=1, minute=1) == ["a1 a5"]


class TestAbsent:
    LATE = absent(event("file"), after=event("begin"), within=60, by="value.day")

    def test_it_is_met_right_behind_the_window_with_the_events_that_began_it(self) -> None:
        rule = Rule(self.LATE)
        rule.come("begin", day=1)
        assert rule.wait(59.999) == []
        assert rule.wait(0.001) == ["begin1"]
        assert rule.wait(1000) == []

    def test_it_is_not_met_when_the_part_comes_until_the_last_millisecond(self) -> None:
        rule = Rule(self.LATE)
        rule.come("begin", day=1)
        rule.wait(59.999)
        rule.now -= 1
        assert rule.come("file", day=1) == []
        assert rule.wait(1000) == []

    def test_what_comes_for_another_value_does_not_matter(self) -> None:
        rule = Rule(self.LATE)
        rule.come("begin", day=1)
        rule.come("file", day=2)
        assert rule.wait(60) == ["begin1"]

    def test_of_itself_it_tells_that_something_has_fallen_silent(self) -> None:
        beat = event("beat")
        rule = Rule(absent(beat, after=beat, within=60))
        for _ in range(3):
            rule.come("beat")
            assert rule.wait(50) == []
        assert rule.wait(10) == ["beat3"]

    def test_an_event_behind_the_window_does_not_undo_it_however_late_the_timer_is(self) -> None:
        rule = Rule(self.LATE)
        rule.come("begin", day=1)
        rule.now += 60_000
        assert rule.come("file", day=1) == ["begin1"]
        assert rule.wait(0) == []


class TestModifiers:
    def test_debounce_is_met_when_it_has_been_quiet(self) -> None:
        rule = Rule(debounce(event("a"), 10))
        rule.come("a")
        rule.wait(9)
        assert rule.come("a") == []
        assert rule.wait(9.9) == []
        assert rule.wait(0.1) == ["a1 a2"]

    def test_throttle_is_met_at_once_and_then_by_the_rest_together(self) -> None:
        rule = Rule(throttle(event("a"), 10))
        assert rule.come("a", "a", "a") == ["a1"]
        assert rule.wait(10) == ["a2 a3"]
        assert rule.come("a") == []
        assert rule.wait(10) == ["a4"]
        rule.wait(10.001)
        assert rule.come("a") == ["a5"]

    def test_batch_is_met_when_it_is_full(self) -> None:
        assert Rule(batch(event("a"), max=2)).come("a", "a", "a") == ["a1 a2"]

    def test_batch_is_met_some_time_after_its_first(self) -> None:
        rule = Rule(batch(event("a"), max=3, within=10))
        rule.come("a", "a")
        assert rule.wait(10) == ["a1 a2"]
        assert rule.wait(100) == []

    def test_they_go_by_the_values_of_by(self) -> None:
        rule = Rule(batch(event("a"), max=2, by="value.user"))
        assert rule.come("a", user="x") == rule.come("a", user="y") == []
        assert rule.come("a", user="x") == ["a1 a3"]


class TestWhileTheTaskRuns:
    def test_matches_of_other_rules_do_nothing(self) -> None:
        rule = Rule(event("a"), ends=False)
        assert rule.come("a", "a", "a") == ["a1"]
        rule.succeed("actor")
        assert rule.matches() == []
        assert len(rule.why("actor", "START ignored")) == 2

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            (each(event("a")), ["a1", "a2", "a3", "a4"]),
            (each(count(event("a"), 2)), ["a1 a2", "a3 a4"]),
            (batch(event("a"), max=2), ["a1 a2", "a3 a4"]),
        ],
        ids=["each", "each match", "batch"],
    )
    def test_matches_of_modifiers_wait_and_start_it_one_after_the_other(
        self, pattern: Pattern, expected: list[str]
    ) -> None:
        rule = Rule(pattern, ends=False)
        found = rule.come("a", "a", "a", "a")
        assert found == expected[:1]
        for _ in expected[1:]:
            rule.succeed("actor")
            found += rule.matches()
        rule.succeed("actor")
        assert found == expected
        assert rule.matches() == []

    def test_the_next_starts_when_the_last_retry_has_failed(self) -> None:
        play = Play(
            task("anchor"), task("actor", met(START, each(event("a"))), retries=1, retry_delay=5)
        )
        play.start()
        play.send("a", "1")
        play.send("a", "2")
        play.fail("actor")
        play.pass_time(5)
        assert play.count("actor") == 1
        play.fail("actor")
        assert play.count("actor") == 2

    def test_each_goes_on_after_a_stop(self) -> None:
        rule = Rule(each(event("a")), ends=False)
        rule.come("a", "a")
        rule.act(STOP, "actor")
        rule.be_gone("actor")
        assert rule.matches() == ["a2"]

    def test_who_waits_for_the_task_sees_the_end_of_each(self) -> None:
        play = Play(
            task("anchor"),
            task("actor", met(START, each(event("a")))),
            task("follower", after("actor")),
        )
        play.start()
        play.send("a")
        play.send("a")
        play.succeed("actor")
        assert (play.status("actor"), play.count("follower")) == (TaskStatus.QUEUED, 1)
        play.succeed("follower", "actor")
        assert play.count("follower") == 2

    def test_a_restart_is_given_the_events_of_all_restarts_meanwhile(self) -> None:
        rule = Rule(event("a"), RESTART, ends=False)
        assert rule.come("a", "a") == [""]  # that with which it began
        rule.be_gone("actor")
        assert rule.matches() == ["a1 a2"]

    def test_a_stop_after_a_restart_forgets_the_events_of_the_restart(self) -> None:
        rule = Rule(event("a"), RESTART, ends=False)
        rule.come("a", "a")
        rule.act(STOP, "actor")
        rule.be_gone("actor")
        assert rule.come("a") == ["a3"]
        assert rule.state.states == {Scope(ScopeKind.WAITING, 1): {}}

    def test_more_than_can_wait_goes_to_the_dead_letters(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patterns, "MOST_WAITING", 1)
        rule = Rule(each(event("a")), ends=False)
        rule.come("a", "a", "a")
        (letter,) = rule.dead_letters
        assert letter.error == "as many matches wait for the task already as can"
        assert letter.evaluation is not None
        rule.succeed("actor")
        assert rule.matches() == ["a2"]

        rule.do(RedriveDeadLetters((Redriven(letter.key, evaluation=letter.evaluation),)))

        rule.succeed("actor")
        assert rule.matches() == ["a3"]


class TestRulesOfATask:
    def test_the_first_rule_that_is_met_acts_and_the_others_do_not_see_the_event(self) -> None:
        play = Play(
            task("anchor"),
            task("actor", on(START, "a"), met(STOP, count(event("a"), 1))),
        )
        play.start()
        play.send("a")
        assert play.status("actor") is TaskStatus.QUEUED

    def test_a_rule_that_is_not_met_leaves_the_event_to_the_next(self) -> None:
        play = Play(
            task("anchor"),
            task("actor", met(STOP, count(event("a"), 2)), on(START, "a")),
        )
        play.start()
        play.send("a")
        assert play.status("actor") is TaskStatus.QUEUED
        play.send("a")
        assert play.status("actor") is TaskStatus.STOPPING

    def test_it_is_told_why_it_acted_or_did_not(self) -> None:
        rule = Rule(all_of(event("a"), event("b"), within=60))
        rule.come("a", "b")
        offsets = [e.offset for e in rule.log if e.key in "ab"]
        text = "rule 1 (all_of(a, b, within=60.0))"
        assert rule.why("actor", "NOT MET") == [f"{text}, event {offsets[0]}"]
        assert rule.why("actor", "START") == [f"{text}, events {offsets[0]}, {offsets[1]}"]


class TestWhatIsHandedOver:
    def submitted_events(self, play: Play) -> list[tuple[str, ...]]:
        return [
            tuple(e.value or "" for e in entry.message.request.events)  # type: ignore[union-attr]
            for entry in play.outbox
            if type(entry.message).__name__ == "Submit"
        ]

    def test_a_plain_rule_hands_over_the_event(self) -> None:
        play = Play(task("actor", on(START, "a")))
        play.start()
        play.send("a", "1")
        assert self.submitted_events(play) == [("1",)]

    def test_what_starts_by_a_status_or_by_itself_has_none(self) -> None:
        play = Play(task("first"), task("second", after("first")))
        play.start()
        play.succeed("first")
        assert self.submitted_events(play) == [(), ()]

    def test_each_attempt_is_given_the_same(self) -> None:
        play = Play(task("actor", on(START, "a"), retries=1))
        play.start()
        play.send("a", "1")
        play.fail("actor")
        play.pass_time(1)
        assert self.submitted_events(play) == [("1",), ("1",)]

    def test_a_start_by_hand_has_none(self) -> None:
        play = Play(task("actor", on(START, "a")))
        play.start()
        play.send("a", "1")
        play.succeed("actor")
        play.act(START, "actor")
        assert self.submitted_events(play) == [("1",), ()]

    def test_tasks_that_start_with_an_execution_are_given_the_events_of_its_trigger(self) -> None:
        play = Play(task("first"), task("second", after("first")))
        play.add_trigger(count(event("a"), 2))
        play.send("a", "1")
        play.send("a", "2")
        assert self.submitted_events(play) == [("1", "2")]


class TestTriggers:
    LATE = absent(event("file"), after=event("begin"), within=60)

    def play(self, pattern: Pattern) -> Play:
        play = Play(task("first"))
        play.add_trigger(pattern)
        return play

    def test_each_match_starts_an_execution(self) -> None:
        play = self.play(count(event("a"), 2))
        for _ in range(5):
            play.send("a")
        assert len(play.executions) == 2

    def test_its_windows_end_by_themselves(self) -> None:
        play = self.play(self.LATE)
        play.send("begin")
        play.pass_time(61)
        assert len(play.executions) == 1

    def test_what_it_remembers_outlives_executions_and_uploads(self) -> None:
        play = self.play(count(event("a"), 2))
        play.send("a")
        play.succeed("first", execution_id=play.start())
        play.upload(task("first"), task("second"))
        play.send("a")
        assert len(play.executions) == 2

    def test_while_it_is_paused_it_hears_nothing_and_starts_nothing(self) -> None:
        play = self.play(self.LATE)
        play.send("begin")
        play.do(PauseTrigger(1, True))
        play.pass_time(61)
        assert play.executions == {}
        assert [d.why for d in play.decisions if d.what == "NOT STARTED"] == ["trigger 1 is paused"]

    def test_of_a_disabled_workflow_it_starts_nothing(self) -> None:
        play = self.play(event("a"))
        play.do(EnableWorkflow("flow", "default", False))
        play.send("a")
        assert play.executions == {}

    def test_nothing_is_left_of_a_deleted_one(self) -> None:
        play = self.play(self.LATE)
        play.send("begin")
        play.do(DeleteTriggers((1,)))
        assert (play.state.timers, play.state.states) == ({}, {})
        play.pass_time(100)
        assert play.executions == {}


class TestLifeOfAnExecution:
    def test_each_execution_begins_with_nothing(self) -> None:
        rule = Rule(count(event("a"), 2))
        rule.come("a")
        second = rule.start()
        rule.send("a")
        assert rule.count("actor") == 1
        with pytest.raises(AssertionError):
            rule.task("actor", second)

    def test_a_running_execution_keeps_its_rules_when_the_workflow_is_uploaded_again(self) -> None:
        rule = Rule(count(event("a"), 2))
        rule.come("a")
        rule.upload(task("anchor"), task("actor", met(START, count(event("a"), 9))))
        assert rule.come("a") == ["a1 a2"]

    def test_nothing_waits_or_is_remembered_when_it_is_stopped(self) -> None:
        rule = Rule(each(count(event("a"), 2)), ends=False)
        rule.come(*"aaaaa")
        rule.stop()
        assert not any(rule.state.states.values())
        rule.be_gone("anchor", "actor")
        assert rule.count("actor") == 1
        assert rule.state.runs == {}

    def test_it_does_not_end_while_matches_wait(self) -> None:
        rule = Rule(each(event("a")), ends=False)
        rule.come("a", "a")
        rule.succeed("anchor", "actor")
        assert rule.goes_on()
        rule.succeed("actor")
        assert rule.end()[0] == "SUCCESS"

    @pytest.mark.parametrize(
        ("pattern", "end"),
        [
            (absent(event("b"), after=event("a"), within=60), "b"),
            (absent(event("b"), after=event("a"), within=60), ""),
            (batch(event("a"), within=60), ""),
            (debounce(event("a"), 60), ""),
        ],
        ids=["absent, it comes", "absent", "batch", "debounce"],
    )
    def test_it_does_not_end_while_a_window_is_open_that_ends_by_itself(
        self, pattern: Pattern, end: str
    ) -> None:
        rule = Rule(pattern)
        rule.come("a")
        rule.succeed("anchor")
        assert rule.goes_on()
        if end:
            rule.come(end)
            rule.now -= 1
        else:
            rule.wait(60)
        assert rule.end()[0] == "SUCCESS"

    def test_what_waits_for_events_alone_does_not_keep_it_open(self) -> None:
        rule = Rule(all_of(event("a"), event("b"), within=60))
        rule.come("a")
        rule.now -= 1
        rule.succeed("anchor")
        assert rule.end()[0] == "SUCCESS"

    @pytest.mark.parametrize(
        "pattern",
        [
            all_of(event("a"), event("b"), within=60, by="value.day"),
            absent(event("b"), after=event("a"), within=60),
            batch(event("a"), max=3, within=60),
            each(event("a")),
        ],
        ids=lambda pattern: str(pattern),
    )
    def test_a_restart_of_the_server_changes_nothing(self, pattern: Pattern) -> None:
        stories = []
        for restarts in (False, True):
            rule = Rule(pattern, ends=False)
            for step in (
                lambda rule: rule.come("a", day=1),
                lambda rule: rule.come("a", day=1),
                lambda rule: rule.pass_time(30),
                lambda rule: rule.come("b", day=1),
                lambda rule: rule.pass_time(61),
                lambda rule: rule.alive() and rule.report(rule.alive()[0].attempt, "SUCCESS"),
            ):
                step(rule)
                if restarts:
                    rule.restart_server()
            stories.append((rule.outbox, rule.decisions))
        assert stories[0] == stories[1]


class TestBounds:
    def test_the_oldest_make_room_and_that_is_recorded(self) -> None:
        play = Play(
            task("anchor"),
            task("actor", met(START, all_of(event("a"), event("b")))),
        )
        play.start()
        first = play.send("a")
        for _ in range(1000):
            play.send("a")
        (why,) = play.why("actor", "FORGOTTEN")
        assert why.startswith(f"event {first.offset} made room for later ones")
        kept = [s for s in play.state.states if s.kind is ScopeKind.RULES]
        assert len(play.state.states[kept[0]]) == 1001  # the events, and what is known of them

    def test_large_matches_leave_room_for_fewer_to_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patterns, "MOST_WAITING_CHARACTERS", 3000)
        rule = Rule(each(event("a")), ends=False)
        rule.come("a", "a", "a", "a", more="x" * 1000)
        assert len(rule.dead_letters) == 1
        rule.restart_server()
        for _ in range(2):
            rule.succeed("actor")
        assert rule.matches() == ["a2", "a3"]
        assert rule.come("a", "a", more="x" * 1000) == []
        assert len(rule.dead_letters) == 1

    def test_of_restarts_the_latest_events_have_room(self) -> None:
        rule = Rule(event("a"), RESTART, ends=False)
        assert rule.matches() == [""]
        for _ in range(5):
            rule.come("a", more="x" * 1_000_000)
        assert len(rule.why("actor", "FORGOTTEN")) == 1
        rule.be_gone("actor")
        assert rule.matches() == ["a2 a3 a4 a5"]

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: all_of(each(event("a"))),
            lambda: batch(event("a")),
            lambda: count(event("a"), 0),
            lambda: sequence(count(event("a"), 2), event("b")),
            lambda: event("a").where({"values.rows": 1}),
        ],
    )
    def test_what_cannot_be_meant_is_refused_where_it_is_written(self, wrong: Any) -> None:
        with pytest.raises(DefinitionError):
            wrong()

    def test_and_again_when_it_arrives(self) -> None:
        wrong = msgspec.structs.replace(count(event("a"), 1), n=0)
        play = Play(task("first"))
        with pytest.raises(Refused, match="n of count is 0"):
            play.upload(task("actor", met(START, wrong)))
        with pytest.raises(Refused, match="n of count is 0"):
            play.add_trigger(wrong)
