"""Why something ran, and why not yet: from stories that are played in virtual time."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError
from aiflow_core.model.algebra import MOST_KEPT, absent, all_of, count, each, event
from aiflow_core.model.condition import (
    Lack,
    MeetAllCondition,
    MeetAnyCondition,
    SingleEventCondition,
    WorkflowTaskStatusCondition,
    missing,
)
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.event import Event
from aiflow_core.model.execution import DeadLetter
from aiflow_core.model.explanation import EventExplanation, TaskExplanation
from aiflow_core.model.rule import TaskRule
from aiflow_core.model.schedule import CatchUp, ScheduleOptions
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.executor import Load, TellsLoad
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.executor import MemoryExecutor
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.close_up import AsItStands
from aiflow_scheduler_event.commands import AddSchedule, EnableWorkflow, PauseSchedule, PauseTrigger
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.explaining import Explainer
from aiflow_scheduler_event.leases import Leases
from aiflow_scheduler_event.membership import LEADER, WORKER
from aiflow_scheduler_event.records import folded
from aiflow_scheduler_event.state import Changes
from aiflow_scheduler_event.store import Store
from aiflow_scheduler_event.tracing import Tracer

from .play import RESTART, START, STOP, Play, after, custom, met, on, task

BOTH = MeetAllCondition("both", (SingleEventCondition("x"), SingleEventCondition("y")))


class Crowded(MemoryExecutor, TellsLoad):
    """An executor all of whose places are taken."""

    def load(self) -> Load:
        return Load(running=5, waiting=2, limit=5)


class Told:
    """A play, and what can be asked about it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.play = Play()
        self.log = MemoryEventStore(ManualClock(self.play.now))
        self.executor: Any = None

    def settle(self) -> None:
        """Let the store and the log have what has been played."""
        state, _ = self.store.load()
        engine = Engine(state)
        for played in self.play.log[state.offset :]:
            (stored,) = self.log.append([played])
            assert stored.offset == played.offset
            before, changes = state.offset, Changes()
            engine.apply(played, changes)
            self.store.commit(before, state, changes, [])

    def task(self, name: str, execution_id: int = 1) -> TaskExplanation:
        self.settle()
        return self.explainer.task(execution_id, name)

    @property
    def explainer(self) -> Explainer:
        clock = ManualClock(self.play.now)
        return Explainer(self.store, self.log, self.executor, clock)

    def waits(self, name: str, execution_id: int = 1) -> list[str]:
        return [wait.text for wait in self.task(name, execution_id).waits]

    def workflow(self) -> list[str]:
        self.settle()
        found = self.explainer.workflow("flow", "default")
        return [found.summary, *(wait.text for wait in found.waits)]

    def event(self, offset: int, *letters: DeadLetter) -> EventExplanation:
        self.settle()
        return Tracer(self.store, self.log).event(offset, letters)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them, to be copied: that is faster than to make one."""
    path = tmp_path_factory.mktemp("empty") / "metadata.db"
    with closing(Store(f"sqlite:///{path}")) as store:
        store.initialize()
    return path


@pytest.fixture
def told(tmp_path: Path, empty: Path) -> Iterator[Told]:
    path = shutil.copy(empty, tmp_path / "metadata.db")
    with closing(Store(f"sqlite:///{path}")) as store:
        yield Told(store)


class Unheard:
    """A condition of a kind that does not say what it misses."""

    expect_event_keys = ("x", "y")


class TestWhyNotYet:
    def test_a_status_rule_names_the_tasks_and_their_statuses(self, told: Told) -> None:
        told.play.upload(task("a"), task("b", on(START, "go")), task("c", after("a", "b")))
        told.play.start()
        told.play.run("a")

        (wait,) = told.task("c").waits

        assert wait.text == (
            "rule 1 (START) waits for task 'a' SUCCESS (it is RUNNING) "
            "and task 'b' SUCCESS (it has not run)"
        )
        assert wait.missing == (
            Lack("task 'a' SUCCESS (it is RUNNING)", (), "a", "SUCCESS", "RUNNING"),
            Lack("task 'b' SUCCESS (it has not run)", (), "b", "SUCCESS"),
        )
        assert wait.since is not None
        assert told.task("c").summary == (
            f"Task 'c' of workflow execution 1 has not run: {wait.text}."
        )

    def test_a_rule_that_looked_in_vain_says_how_often(self, told: Told) -> None:
        told.play.upload(task("a"), task("b"), task("c", after("a", "b")))
        told.play.start()
        told.play.succeed("a")

        (text,) = told.waits("c")

        assert text.endswith("; not met once, last by event 4")

    def test_an_event_rule_names_the_keys_that_have_not_come(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", TaskRule(START, BOTH)))
        told.play.start()
        assert told.task("c").waits[0].missing == (
            Lack("an event with key 'x'", ("x",)),
            Lack("an event with key 'y'", ("y",)),
        )

        told.play.send("x")

        assert told.task("c").waits[0].missing == (Lack("an event with key 'y'", ("y",)),)

    def test_events_that_came_too_early_are_told_of(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", on(START, "go")))
        told.play.send("go")
        told.play.send("go", namespace="elsewhere")
        told.play.start()

        (text,) = told.waits("c")

        assert "1 such event came before the execution began, which does not count" in text

    def test_each_rule_that_could_start_the_task_is_told(self, told: Told) -> None:
        rules = (on(START, "go"), on(STOP, "halt"), on(RESTART, "again"))
        told.play.upload(task("anchor"), task("c", *rules))
        told.play.start()

        found = told.task("c")

        assert [wait.rule for wait in found.waits] == [1, 3]
        assert "2 rules could start it, and none was met" in found.summary

    def test_a_condition_of_the_users_says_about_which_event_it_is_asked(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", custom(START, "number")))
        told.play.start()
        assert "that your own condition accepts" in told.waits("c")[0]

        event = told.play.send("number")

        assert told.waits("c") == [
            f"rule 1 (START): its condition is asked about event {event.offset}"
        ]

    def test_a_rule_that_was_met_says_when_it_acts_again(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("a"), task("b", after("a")))
        told.play.start()
        told.play.succeed("a", "b")

        assert told.waits("b") == ["rule 1 (START) acts when one of its statuses is taken again"]

    def test_a_queued_task_says_that_no_place_is_free(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.start()
        told.executor = Crowded()

        assert told.waits("a") == [
            "the executor of this server runs 5 attempts, its limit is 5, and 2 wait for a place"
        ]

    def test_a_task_that_failed_says_when_it_is_tried_again(self, told: Told) -> None:
        told.play.upload(task("a", retries=1, retry_delay=60))
        told.play.start()
        told.play.fail("a")

        found = told.task("a")

        assert found.summary.startswith("Task 'a' of workflow execution 1 is RETRYING")
        (wait,) = found.waits
        assert wait.until is not None
        assert wait.since is not None
        assert (wait.until - wait.since).total_seconds() == 60

    def test_a_running_task_says_until_when_it_may(self, told: Told) -> None:
        told.play.upload(task("a", timeout=30), task("b"))
        told.play.start()
        told.play.run("a", "b")

        assert told.task("a").waits[0].until is not None
        assert told.task("b").waits[0].until is None

    def test_a_periodic_task_says_when_it_runs_next(self, told: Told) -> None:
        told.play.upload(task("p", periodic_expression="interval@0 1 0 0"))
        told.play.start()
        told.play.succeed("p")

        (wait,) = told.task("p").waits

        assert wait.text == "its period"
        assert wait.until is not None

    def test_nothing_is_waited_for_while_the_execution_is_being_stopped(self, told: Told) -> None:
        told.play.upload(task("a"), task("b", after("a")))
        told.play.start()
        told.play.run("a")
        told.play.stop()

        assert told.waits("b") == [
            "the workflow execution is being stopped, nothing starts in it any more"
        ]
        assert told.waits("a") == [
            "it is being stopped, until every process of the attempt is gone"
        ]

    def test_a_task_that_never_ran_says_what_it_still_needed(self, told: Told) -> None:
        told.play.upload(task("a"), task("b", after("a")))
        told.play.start()
        told.play.fail("a")

        found = told.task("b")

        assert "never ran: the execution ended with FAILED" in found.summary
        assert [wait.text for wait in found.waits] == [
            "rule 1 (START) still needed task 'a' SUCCESS (it is FAILED)"
        ]

    def test_a_scheduler_that_is_behind_says_so(self, told: Told) -> None:
        told.play.upload(task("a"), task("b", after("a")))
        told.play.start()
        told.settle()
        told.log.append([Event("one"), Event("two")])

        found = Explainer(told.store, told.log).task(1, "b")

        assert found.waits[0].text == "the scheduler has not taken in the last 2 events of the log"

    def test_that_no_server_schedules_is_told(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.start()
        lease = Leases(told.store.engine, told.store.uri).take(LEADER, "server 1", ttl_ms=-5000)
        assert lease is not None

        assert told.waits("a")[0].startswith("no server schedules: the lease of server 1 ran out 5")

    def test_the_server_that_has_an_attempt_is_named(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.start()
        told.settle()
        with told.store.engine.begin() as connection:
            connection.execute(tables.task_execution.update().values(worker="two"))
        text = "server two has taken the attempt and has not told that it runs"
        assert told.waits("a") == [text]

        leases = Leases(told.store.engine, told.store.uri)
        assert leases.take(f"{WORKER}two", "two", ttl_ms=-9000) is not None

        lost = told.waits("a")
        assert lost[0].startswith("server two has the attempt, and its lease ran out 9")
        assert lost[1:] == [text]

    def test_what_is_not_there_is_not_found(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.start()

        with pytest.raises(NotFoundError, match=r"No such task: b\. The tasks are a"):
            told.task("b")
        with pytest.raises(NotFoundError, match="No such workflow execution: 9"):
            told.task("a", 9)
        with pytest.raises(NotFoundError, match="No such task execution: 9"):
            Explainer(told.store).task_execution(9)


class TestWhy:
    def test_a_task_says_which_rule_started_it(self, told: Told) -> None:
        told.play.upload(task("a"), task("b", on(STOP, "halt"), after("a")))
        told.play.start()
        told.play.succeed("a", "b")

        found = told.task("b")

        (decision,) = found.decisions
        assert (decision.what, decision.cause, decision.number) == (Outcome.START, Cause.RULE, 2)
        assert found.task is not None
        assert decision.task_execution_id == found.task.id
        assert found.summary == (
            "Task 'b' of workflow execution 1 ran, started by rule 2 (a SUCCESS), event 4; "
            "it ended with SUCCESS."
        )

    def test_each_execution_of_a_task_has_its_own_reasons(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("b", on(RESTART, "go")))
        told.play.start()
        told.play.send("go")
        told.play.run("b")
        told.play.send("go")
        told.play.be_gone("b")
        told.settle()
        explainer = Explainer(told.store, told.log)

        first, second = (explainer.task_execution(id) for id in (2, 3))

        assert [(d.what, d.cause) for d in first.decisions] == [
            (Outcome.START, Cause.BEGIN),
            (Outcome.RESTART, Cause.RULE),
            (Outcome.RESTART, Cause.RULE),
        ]
        assert "started because it has no START rule; it ended with STOPPED" in first.summary
        assert "is QUEUED, started because task execution 2 has made way: " in second.summary
        (again,) = second.decisions
        assert (again.what, again.cause, again.number) == (Outcome.RESTARTED, Cause.RESTART, 2)

    def test_a_retry_and_a_timeout_are_decisions(self, told: Told) -> None:
        told.play.upload(task("a", retries=1, retry_delay=1, timeout=30))
        told.play.start()
        told.play.run("a")
        told.play.pass_time(31)
        told.play.be_gone("a")
        told.play.pass_time(2)

        found = told.task("a")

        assert [d.what for d in found.decisions] == ["START", "STOP", "RETRY"]
        assert "timed out after 30 s" in found.decisions[-1].why

    def test_who_started_the_execution_is_a_decision(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.add_trigger(SingleEventCondition("go"))
        told.play.do(AddSchedule("flow", "default", "interval@0 1 0 0"))
        told.play.start()
        told.play.send("go")
        told.play.pass_time(3600)
        told.settle()

        found = [told.store.decisions(n, "")[0] for n in (1, 2, 3)]

        assert [(d.cause, d.number) for d in found] == [
            (Cause.REQUEST, 0),
            (Cause.TRIGGER, 1),
            (Cause.SCHEDULE, 1),
        ]


class TestFolding:
    def test_a_rule_that_a_hundred_events_pass_by_leaves_one_record(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", TaskRule(START, BOTH)))
        told.play.start()
        for _ in range(100):
            told.play.send("x")

        decisions = told.task("c").decisions

        (one,) = decisions
        assert (one.what, one.count, one.first_offset, one.offset) == ("NOT MET", 100, 4, 103)
        assert one.first_time is not None
        assert one.missing == (Lack("an event with key 'y'", ("y",)),)

    def test_it_does_not_matter_how_the_steps_are_cut(self, told: Told, tmp_path: Path) -> None:
        told.play.tell_a_story()
        for _ in range(5):
            told.play.send("x")
        told.settle()
        with closing(Store(f"sqlite:///{tmp_path / 'other.db'}")) as other:
            other.initialize()
            state, _ = other.load()
            engine, changes = Engine(state), Changes()
            for event in told.play.log:
                engine.apply(event, changes)
            other.commit(0, state, changes, [])

            for execution, name in [(0, ""), (1, "b"), (2, "c"), (2, "d"), (3, "d")]:
                one = told.store.decisions(execution, name)
                assert sorted(one, key=str) == sorted(other.decisions(execution, name), key=str)
                wanted = [
                    d
                    for d in told.play.decisions
                    if (d.workflow_execution_id, d.task_name) == (execution, name)
                ]
                assert sorted(one, key=str) == sorted(folded(wanted), key=str)

    def test_a_join_of_many_tasks_keeps_a_few_of_those_that_are_missing(self, told: Told) -> None:
        names = [f"t{n}" for n in range(50)]
        told.play.upload(*map(task, names), task("join", after(*names)))
        told.play.start()
        told.play.succeed("t0")

        decision = told.task("join").decisions[-1]

        assert len(decision.missing) == 9
        assert decision.missing[-1].text == "41 more"
        assert len(told.task("join").waits[0].missing) == 49


class TestWorkflow:
    def test_it_tells_what_would_start_it(self, told: Told) -> None:
        told.play.upload(task("a"))
        assert told.workflow() == [
            "Workflow default.flow has no schedule and no trigger, it starts on request; "
            "0 of its executions run."
        ]

        told.play.do(AddSchedule("flow", "default", "cron@0 * * * *"))
        told.play.add_trigger(BOTH)
        told.play.send("x")
        told.play.start()

        assert told.workflow()[1:] == [
            "schedule 1 (cron@0 * * * *) fires next",
            "trigger 1 waits for an event with key 'y'",
        ]

    def test_it_tells_what_keeps_it(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.do(AddSchedule("flow", "default", "cron@0 * * * *"))
        told.play.add_trigger(SingleEventCondition("go"))
        told.play.do(PauseTrigger(1, True))
        told.play.do(PauseSchedule(1, True))
        told.play.do(EnableWorkflow("flow", "default", False))
        told.play.send("go")

        assert told.workflow()[1:] == [
            "the workflow is disabled, nothing starts it",
            "schedule 1 (cron@0 * * * *) is paused",
            "trigger 1 is paused",
        ]
        (decision,) = Explainer(told.store).workflow("flow", "default").decisions
        assert decision.why == "trigger 1 is paused"

    def test_its_decisions_go_with_it(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.add_trigger(BOTH)
        told.play.send("x")
        told.settle()
        assert [d.what for d in told.store.decisions(0, "")] == ["NOT MET"]

        told.play.delete()
        told.settle()

        assert told.store.decisions(0, "") == []


class TestEvent:
    def test_it_led_to_a_start_and_to_what_came_of_it(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("b", on(START, "go")))
        told.play.start()
        event = told.play.send("go")
        told.play.run("b")
        told.play.append("done", "1", sender="1_b_1", namespace="default")

        found = told.event(event.offset)

        assert found.summary == "Event 4 (go) led to START of task 'b' in workflow execution 1."
        assert [t.task_name for t in found.task_executions] == ["b"]
        assert [(e.key, e.value) for e in found.followed] == [
            ("task_status.flow.b", "RUNNING"),
            ("done", "1"),
        ]

    def test_a_command_led_to_an_execution(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.start()

        found = told.event(2)

        assert [e.id for e in found.workflow_executions] == [1]
        assert [d.task_name for d in found.decisions] == ["", "a"]
        assert ("workflow_status.flow", "RUNNING") in [(e.key, e.value) for e in found.followed]

    def test_an_answer_of_a_condition_belongs_to_the_event_it_was_asked_about(
        self, told: Told
    ) -> None:
        told.play.upload(task("anchor"), task("c", custom(START, "number")))
        told.play.start()
        event = told.play.send("number")
        assert "1 condition(s) of yours are asked" in told.event(event.offset).summary

        told.play.answer(True)

        (decision,) = told.event(event.offset).decisions
        assert (decision.what, decision.answer_offset) == (Outcome.START, event.offset + 1)
        assert told.event(event.offset + 1).decisions == (decision,)

    def test_one_among_many_that_a_rule_looked_at_is_covered(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", TaskRule(START, BOTH)))
        told.play.start()
        middle = [told.play.send("x") for _ in range(9)][4]

        found = told.event(middle.offset)

        (decision,) = found.decisions
        assert (decision.what, decision.count) == (Outcome.NOT_MET, 9)
        assert "nothing followed from it: NOT MET" in found.summary

    def test_an_event_that_nobody_heard_says_who_might_have(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", on(START, "go")))
        told.play.add_trigger(SingleEventCondition("go"))
        lonely = told.play.send("go", namespace="")
        early = told.play.send("nothing", only=7)

        assert told.event(lonely.offset).hints == (
            "Rule 1 of task 'c' of workflow default.flow listens to it, but in namespace "
            "'default', and the event was sent to no namespace.",
            "Trigger 1 of workflow default.flow listens to it, but in namespace 'default', and "
            "the event was sent to no namespace.",
        )
        assert told.event(lonely.offset).summary.endswith("led to nothing: nobody listened to it.")
        assert told.event(early.offset).hints == ("It was meant for workflow execution 7 alone.",)

    def test_an_event_before_the_execution_says_that_none_ran(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", on(START, "go")))
        early = told.play.send("go")
        told.play.start()

        assert told.event(early.offset).hints == (
            "Rule 1 of task 'c' of workflow default.flow listens to it, but no execution of it "
            "ran when it came.",
        )

    def test_a_dead_letter_comes_first(self, told: Told) -> None:
        told.play.upload(task("anchor"), task("c", custom(START, "number")))
        told.play.start()
        event = told.play.send("number")
        told.play.answer(False, error="KeyError: 'x'")
        (letter,) = told.play.dead_letters
        seen = DeadLetter(letter.offset, letter.consumer, letter.error, letter.create_time)

        found = told.event(event.offset, seen)

        assert found.summary == "Event 4 (number) went to the dead letters: KeyError: 'x'."
        assert found.dead_letters == (seen,)

    def test_what_was_not_taken_in_yet_says_so(self, told: Told) -> None:
        told.settle()
        (stored,) = told.log.append([Event("x")])

        found = Tracer(told.store, told.log).event(stored.offset, ())

        assert found.summary == "Event 1 (x) has not been taken in by the scheduler yet."

    def test_an_event_that_the_log_has_forgotten_is_told_of_by_its_decisions(
        self, told: Told
    ) -> None:
        told.play.upload(task("a"))
        told.play.start()
        told.settle()
        told.log.truncate(3)

        found = told.event(2)

        assert found.event is None
        assert found.summary.startswith("Event 2 led to START of workflow execution 1")
        with pytest.raises(NotFoundError, match=r"No such event: 77\. The log has the events 3 to"):
            told.event(77)


def test_ticks_for_which_there_is_no_room_are_told(told: Told) -> None:
    told.play.upload(task("a"))
    options = ScheduleOptions(catch_up=CatchUp.ALL, max_active_runs=1)
    told.play.do(AddSchedule("flow", "default", "interval@0 0 10 0", options))
    told.play.pass_time(4 * 600)

    assert told.workflow()[1] == (
        "schedule 1 (interval@0 0 10 0) fires next; "
        "3 ticks wait until less than 1 of its executions run"
    )
    kept = folded(d for d in told.play.decisions if d.cause is Cause.SCHEDULE)
    assert [(d.what, d.number, d.workflow_id) for d in kept] == [
        (Outcome.START, 1, 1),
        *[(Outcome.START_WAITS, 1, 1)] * 3,
    ]


def test_ticks_that_are_one_with_what_waits_are_told_in_one_record(told: Told) -> None:
    told.play.upload(task("a"))
    options = ScheduleOptions(max_active_runs=1)
    told.play.do(AddSchedule("flow", "default", "interval@0 0 10 0", options))
    told.play.pass_time(9 * 600)

    kept = folded(d for d in told.play.decisions if d.cause is Cause.SCHEDULE)
    assert [(d.what, d.count) for d in kept] == [
        (Outcome.START, 1),
        (Outcome.START_WAITS, 1),
        (Outcome.NOT_STARTED, 7),
    ]


class TestPatterns:
    def test_a_task_tells_what_its_pattern_still_lacks_and_since_when(self, told: Told) -> None:
        told.play.upload(task("a", met(START, all_of(event("x"), event("y"), within=60))))
        told.play.start()
        came = told.play.send("x")
        told.play.pass_time(10)

        (wait,) = told.task("a").waits

        assert wait.text == (
            "rule 1 (START) waits for an event with key 'y'; not met once, last by event 4"
        )
        assert wait.since == to_datetime(came.create_time)
        (lack,) = wait.missing
        assert lack.before == to_datetime(came.create_time + 60_000)
        (decision,) = told.task("a").decisions
        assert (decision.what, decision.cause, decision.number) == ("NOT MET", "RULE", 1)
        assert decision.missing == wait.missing

        told.play.sleep_through(51)
        assert told.task("a").waits[0].missing == (
            Lack("an event with key 'x'", ("x",)),
            Lack("an event with key 'y'", ("y",)),
        )

    def test_the_end_of_a_window_is_told_and_what_it_led_to(self, told: Told) -> None:
        told.play.upload(task("a", met(START, absent(event("done"), after=event("x"), within=60))))
        told.play.start()
        came = told.play.send("x")

        (wait,) = told.task("a").waits
        assert wait.text.startswith(
            "rule 1 (START) waits for 60 s without an event with key 'done'"
        )
        assert wait.until == to_datetime(came.create_time + 60_001)

        told.play.pass_time(61)
        start = told.task("a").decisions[-1]
        assert (start.what, start.offset, start.answer_offset) == (
            "START",
            came.offset,
            came.offset + 1,
        )
        assert told.event(came.offset).summary == (
            f"Event {came.offset} (x) led to START of task 'a' in workflow execution 1."
        )

    def test_what_a_match_led_to_is_told_of_each_of_its_events(self, told: Told) -> None:
        pattern = all_of(event("x"), event("y"), consume="first")
        told.play.upload(task("a", met(RESTART, pattern)))
        told.play.add_trigger(pattern)
        told.play.start()
        first, unused, last = (told.play.send(key) for key in "xxy")

        led = f"Event {first.offset} (x) led to START of workflow execution 2"
        found = told.event(first.offset)
        assert found.summary == f"{led}."
        assert [e.id for e in found.workflow_executions] == [2]
        assert told.event(last.offset).summary.startswith(
            f"Event {last.offset} (y) led to RESTART of task 'a' in workflow execution 1, START of "
        )

        told.play.be_gone("a")
        found = told.event(first.offset)
        assert found.summary == f"{led}, RESTARTED of task 'a' in workflow execution 1."
        assert [t.sequence_number for t in found.task_executions if t.task_name == "a"] == [2]
        assert "nothing followed from it: NOT MET" in told.event(unused.offset).summary

    def test_matches_that_wait_are_told_and_started_for(self, told: Told) -> None:
        told.play.upload(task("a", met(START, each(event("x")))))
        told.play.start()
        told.play.send("x")
        told.play.run("a")
        second = told.play.send("x")
        assert told.waits("a")[0] == (
            "one match waits until it has ended, and starts it again then"
        )
        told.play.send("x")
        assert told.waits("a") == [
            "2 matches wait until it has ended, each starts it once more",
            "it runs",
        ]
        assert told.task("a").summary.endswith("event 4: it runs.")
        assert told.task("a").decisions[-1].what == Outcome.START_WAITS

        told.play.succeed("a")
        start = told.task("a").decisions[-1]
        assert (start.what, start.offset, start.cause) == ("START", second.offset, Cause.RULE)
        assert start.answer_offset == told.play.state.offset
        assert start.task_execution_id == 2
        assert told.event(second.offset).summary == (
            f"Event {second.offset} (x) led to START of task 'a' in workflow execution 1, once it "
            "had ended, START of task 'a' in workflow execution 1."
        )

    def test_what_has_made_room_is_told_in_one_record(self, told: Told) -> None:
        told.play.upload(task("a", met(START, all_of(event("x"), event("y")))))
        told.play.start()
        for _ in range(MOST_KEPT + 3):
            told.play.send("x")

        kept = folded(d for d in told.play.decisions if d.task_name == "a")
        assert [(d.what, d.count) for d in kept] == [
            (Outcome.NOT_MET, MOST_KEPT + 3),
            (Outcome.FORGOTTEN, 3),
        ]
        assert kept[1].why.startswith("event 6 made room for later ones")

    def test_a_trigger_tells_what_it_lacks(self, told: Told) -> None:
        told.play.upload(task("a"))
        told.play.add_trigger(count(event("x"), 2, within=60))
        came = told.play.send("x")

        assert told.workflow()[1:] == ["trigger 1 waits for 1 of 2 times an event with key 'x'"]
        (decision,) = told.event(came.offset).decisions
        assert (decision.what, decision.workflow_id, decision.number) == ("NOT MET", 1, 1)
        assert [lack.text for lack in decision.missing] == ["1 of 2 times an event with key 'x'"]

        told.play.send("x")
        assert told.event(came.offset + 1).workflow_executions[0].id == 1


def test_every_database_explains_the_same(database_url: str) -> None:
    with closing(Store(database_url)) as store:
        store.initialize()
        told = Told(store)
        told.play.tell_a_story()
        event = [told.play.send("x") for _ in range(9)][4]

        waits = [wait.text for wait in told.task("d", 2).waits]
        assert waits == [
            "rule 1 (START) waits for an event with key 'y'; not met 10 times, last by event 39",
            "rule 2 (RESTART) waits for an event with key '*again'",
        ]
        covering = told.event(event.offset).decisions
        assert [d.count for d in covering if d.task_name == "d"] == [10, 9, 7]
        gathers = [wait.text for wait in told.task("gathers", 5).waits]
        assert gathers == [
            "rule 1 (START) waits for 2 times an event with key 'number' or once and the end of "
            "60 s; 8 such events came before the execution began, which does not count; "
            "not met 4 times, last by event 39",
            "rule 3 (RESTART) waits for an event with key '*again' and then 1 s without an event "
            "with key '*again'",
        ]
        assert told.workflow()[1:4] == [
            "schedule 1 (interval@0 1 0 0) fires next",
            "trigger 1 waits for an event with key 'go'",
            "trigger 2 waits for 1 of 3 times an event with key '*' of key \"number\" "
            "(and so for 2 more)",
        ]
        first = Explainer(store, told.log).task_execution(1)
        assert [d.what for d in first.decisions] == ["START"]


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        (
            MeetAnyCondition((SingleEventCondition("x"), BOTH)),
            ["an event with key 'x' or an event with key 'x' and an event with key 'y'"],
        ),
        (
            WorkflowTaskStatusCondition("w", "t", "default", TaskStatus.FAILED),
            ["task 't' of workflow 'w' FAILED"],
        ),
        (Unheard(), ["an event with key 'x' or 'y'"]),
    ],
)
def test_a_condition_says_what_it_misses(condition: Any, texts: list[str]) -> None:
    assert [lack.text for lack in missing(condition, AsItStands({}, {}))] == texts
