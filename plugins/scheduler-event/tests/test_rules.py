"""What the words of the rules mean: each row of the semantics, on the engine alone, in virtual
time."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from aiflow_core.errors import ConflictError, DefinitionError, NotFoundError
from aiflow_core.model.condition import (
    CustomCondition,
    MeetAllCondition,
    MeetAnyCondition,
    SingleEventCondition,
    WorkflowTaskStatusCondition,
)
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import AttemptKey, Namespace
from aiflow_core.model.rule import TaskRule
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import (
    TASK_FINISHED,
    ExecutionType,
    TaskStatus,
    WorkflowStatus,
    may_follow,
)
from aiflow_core.model.workflow import TaskDefinition
from aiflow_scheduler_event.commands import (
    AddSchedule,
    DeleteSchedules,
    DeleteTriggers,
    DeleteWorkflow,
    EnableWorkflow,
    PauseSchedule,
    PauseTrigger,
    RedriveDeadLetters,
    Redriven,
    StopExecutions,
)
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import (
    Changes,
    LetterKey,
    Reply,
    ScopeKind,
    State,
    TimerKey,
    TimerKind,
)
from aiflow_scheduler_event.step import Answer

from .play import (
    RESTART,
    START,
    STOP,
    Play,
    Refused,
    after,
    custom,
    on,
    seen,
    stories,
    task,
    when,
)
from .rows import row

QUEUED, RUNNING, SUCCESS = TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.SUCCESS
FAILED, STOPPING, STOPPED = TaskStatus.FAILED, TaskStatus.STOPPING, TaskStatus.STOPPED
RETRYING = TaskStatus.RETRYING

# Keeps an execution open while a test looks at other tasks.
ANCHOR = task("anchor")

DAY = 24 * 3600.0


def begun(*tasks: TaskDefinition) -> Play:
    """An execution of these tasks has just started."""
    play = Play(*tasks)
    play.start()
    return play


def actor(*rules: TaskRule, **config: Any) -> Play:
    """An execution with a task `actor` that waits, and one that keeps the execution open."""
    return begun(ANCHOR, task("actor", *rules, **config))


def bring_to(play: Play, status: TaskStatus) -> None:
    """Start the task `actor` by the event `go` and let it come to the status."""
    play.send("go")
    if status in (RUNNING, STOPPING):
        play.run("actor")
    if status is STOPPING:
        play.act(STOP, "actor")
    if status is SUCCESS:
        play.succeed("actor")
    if status in (FAILED, RETRYING):
        play.fail("actor")
    if status is STOPPED:
        play.act(STOP, "actor")
        play.be_gone("actor")
    assert play.status("actor") is status


GO = on(START, "go")
ALIVE = [QUEUED, RUNNING, STOPPING]
ENDED = [SUCCESS, FAILED, STOPPED]


@row("Actions", "`START`")
class TestStarting:
    @row("What starts", "a task without a `START` rule")
    def test_tasks_without_a_start_rule_start_with_the_execution(self) -> None:
        play = begun(
            task("plain"),
            task("stopped_by_event", on(STOP, "enough")),
            task("waits", GO),
            task("follows", after("plain")),
        )

        assert play.tasks() == [("plain", "QUEUED"), ("stopped_by_event", "QUEUED")]

    def test_a_task_is_queued_until_it_is_seen_running(self) -> None:
        play = begun(task("t"))
        assert play.task("t").begin_date is None

        play.pass_time(5)
        play.run("t")

        assert play.statuses("t") == ["QUEUED", "RUNNING"]
        assert play.task("t").begin_date is not None

    @row("Who is responsible, and until when", "`QUEUED`")
    def test_an_attempt_may_end_before_it_was_seen_running(self) -> None:
        play = begun(task("t"))

        play.succeed("t")

        assert play.statuses("t") == ["QUEUED", "SUCCESS"]

    @pytest.mark.parametrize("status", ALIVE)
    def test_start_does_nothing_while_the_task_is_alive(self, status: TaskStatus) -> None:
        play = actor(GO)
        bring_to(play, status)

        play.send("go")

        assert play.status("actor") is status
        assert play.count("actor") == 1
        assert len(play.why("actor", "START ignored")) == 1

    def test_start_does_nothing_while_the_task_waits_to_be_tried_again(self) -> None:
        play = actor(GO, retries=1, retry_delay=60)
        bring_to(play, RETRYING)

        play.send("go")

        assert play.status("actor") is RETRYING

    @pytest.mark.parametrize("status", ENDED)
    def test_start_makes_a_new_task_execution_of_a_task_that_has_ended(
        self, status: TaskStatus
    ) -> None:
        play = actor(GO)
        bring_to(play, status)

        play.send("go")

        assert play.tasks()[1:] == [("actor", status), ("actor", "QUEUED")]
        assert play.task("actor").sequence_number == 2
        assert play.task("actor").try_number == 1


@row("Actions", "`STOP`")
class TestStopping:
    @row("Who is responsible, and until when", "`STOPPING`")
    @pytest.mark.parametrize("status", [QUEUED, RUNNING])
    def test_a_stopped_task_is_stopping_until_it_is_verified_gone(self, status: TaskStatus) -> None:
        play = actor(GO, on(STOP, "enough"))
        bring_to(play, status)

        play.send("enough")
        assert play.status("actor") is STOPPING
        assert play.stops == [play.attempt("actor")]

        play.be_gone("actor")
        assert play.status("actor") is STOPPED
        assert "enough" in play.task("actor").reason

    def test_stopping_again_asks_the_executor_once(self) -> None:
        play = actor(GO, on(STOP, "enough"))
        bring_to(play, RUNNING)

        play.send("enough")
        play.send("enough")

        assert len(play.stops) == 1

    def test_a_task_that_waits_to_be_tried_again_is_stopped_at_once(self) -> None:
        play = actor(GO, on(STOP, "enough"), retries=3, retry_delay=60)
        bring_to(play, RETRYING)

        play.send("enough")

        assert play.status("actor") is STOPPED
        assert play.stops == []
        play.pass_time(DAY)
        assert play.count("actor") == 1

    @pytest.mark.parametrize("status", ENDED)
    def test_stop_by_a_rule_does_nothing_to_a_task_that_does_not_run(
        self, status: TaskStatus
    ) -> None:
        play = actor(GO, on(STOP, "enough"))
        bring_to(play, status)

        play.send("enough")

        assert play.status("actor") is status
        assert len(play.why("actor", "STOP ignored")) == 1

    @pytest.mark.parametrize("status", ENDED)
    def test_stop_by_a_request_conflicts_when_the_task_does_not_run(
        self, status: TaskStatus
    ) -> None:
        play = actor(GO)
        bring_to(play, status)

        with pytest.raises(Refused) as refused:
            play.act(STOP, "actor")

        assert isinstance(refused.value.error, ConflictError)

    def test_a_task_that_succeeds_while_it_is_being_stopped_has_succeeded(self) -> None:
        play = actor(GO, on(STOP, "enough"))
        bring_to(play, RUNNING)

        play.send("enough")
        play.succeed("actor")

        assert play.status("actor") is SUCCESS
        assert play.task("actor").reason == ""

    def test_a_task_that_fails_while_it_is_being_stopped_is_stopped(self) -> None:
        play = actor(GO, on(STOP, "enough"), retries=5)
        bring_to(play, RUNNING)

        play.send("enough")
        play.fail("actor", "killed by signal 15")

        assert play.status("actor") is STOPPED

    def test_an_attempt_that_somebody_else_ended_has_failed(self) -> None:
        play = actor(GO)
        bring_to(play, RUNNING)

        play.report(play.attempt("actor"), STOPPED)

        assert play.status("actor") is FAILED
        assert "from outside" in play.task("actor").reason


@row("Actions", "`RESTART`")
class TestRestarting:
    @pytest.mark.parametrize("status", [QUEUED, RUNNING])
    def test_a_task_that_runs_is_started_anew_when_it_is_gone(self, status: TaskStatus) -> None:
        play = actor(GO, on(RESTART, "again"))
        bring_to(play, status)

        play.send("again")
        assert play.count("actor") == 1
        play.be_gone("actor")

        assert play.tasks()[1:] == [("actor", "STOPPED"), ("actor", "QUEUED")]

    def test_restarting_twice_before_it_is_gone_starts_it_once(self) -> None:
        play = actor(GO, on(RESTART, "again"))
        bring_to(play, RUNNING)

        play.send("again")
        play.send("again")
        play.be_gone("actor")

        assert play.count("actor") == 2

    def test_a_task_that_waits_to_be_tried_again_is_started_anew_at_once(self) -> None:
        play = actor(GO, on(RESTART, "again"), retries=3, retry_delay=60)
        bring_to(play, RETRYING)

        play.send("again")

        assert play.tasks()[1:] == [("actor", "STOPPED"), ("actor", "QUEUED")]
        play.pass_time(DAY)
        assert play.tasks()[1:] == [("actor", "STOPPED"), ("actor", "QUEUED")]

    @pytest.mark.parametrize("status", ENDED)
    def test_a_task_that_does_not_run_is_started(self, status: TaskStatus) -> None:
        play = actor(GO, on(RESTART, "again"))
        bring_to(play, status)

        play.send("again")

        assert play.status("actor") is QUEUED
        assert play.count("actor") == 2

    def test_a_task_that_never_ran_is_started(self) -> None:
        play = actor(GO, on(RESTART, "again"))

        play.send("again")

        assert play.status("actor") is QUEUED

    def test_a_task_that_succeeds_while_it_is_being_restarted_is_started_anew(self) -> None:
        play = actor(GO, on(RESTART, "again"))
        bring_to(play, RUNNING)

        play.send("again")
        play.succeed("actor")

        assert play.tasks()[1:] == [("actor", "SUCCESS"), ("actor", "QUEUED")]

    def test_the_latest_wish_counts_stop_after_restart(self) -> None:
        play = actor(GO, on(RESTART, "again"), on(STOP, "enough"))
        bring_to(play, RUNNING)

        play.send("again")
        play.send("enough")
        play.be_gone("actor")

        assert play.tasks()[1:] == [("actor", "STOPPED")]

    def test_the_latest_wish_counts_restart_after_stop(self) -> None:
        play = actor(GO, on(RESTART, "again"), on(STOP, "enough"))
        bring_to(play, RUNNING)

        play.send("enough")
        play.send("again")
        play.be_gone("actor")

        assert play.tasks()[1:] == [("actor", "STOPPED"), ("actor", "QUEUED")]


class TestWhoHearsAnEvent:
    @row(
        "Which executions an event reaches",
        "without the id of an execution",
    )
    def test_every_running_execution_of_the_namespace(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.upload(ANCHOR, task("t", GO), name="other")
        executions = [play.start(), play.start(), play.start("other")]

        play.send("go")

        assert [play.status("t", e) for e in executions] == [QUEUED] * 3

    @row("Which executions an event reaches", "sent from a task")
    def test_only_the_execution_that_the_event_names(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        executions = [play.start(), play.start(), play.start()]

        play.send("go", only=2)

        assert [play.count("t", e) for e in executions] == [0, 1, 0]

    @row(
        "Which executions an event reaches",
        "with the id of an execution elsewhere",
    )
    def test_nobody_when_the_event_names_an_execution_that_has_ended(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.start()
        play.stop()
        play.be_gone("anchor")
        other = play.start()

        play.send("go", only=1)

        assert play.count("t", other) == play.count("t", 1) == 0

    def test_nobody_in_another_namespace(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.add_namespace("elsewhere")
        play.upload(ANCHOR, task("t", GO), namespace="elsewhere")
        here, there = play.start(), play.start(namespace="elsewhere")

        play.send("go", namespace="elsewhere")

        assert (play.count("t", here), play.count("t", there)) == (0, 1)

    def test_an_execution_of_another_namespace_is_not_named_by_an_event(self) -> None:
        play = actor(GO)

        play.send("go", only=1, namespace="elsewhere")

        assert play.count("actor") == 0

    @pytest.mark.parametrize("context", ["not JSON", "[1]", '"x"', '{"workflow_execution_id":"x"}'])
    def test_a_context_of_the_sender_s_own_names_no_execution(self, context: str) -> None:
        play = actor(GO)

        play.append("go", context=context, namespace="default")

        assert play.status("actor") is QUEUED

    @row("Conditions", "`action_on_event_received(action, event_key)`")
    @pytest.mark.parametrize(
        ("pattern", "key", "matches"),
        [
            ("*", "anything", True),
            ("data.*", "data.arrived", True),
            ("data.*", "data.", True),
            ("data.*", "data", False),
            ("*.arrived", "data.arrived", True),
            ("d*.a*d", "data.arrived", True),
            ("d*.a*d", "data.arriving", False),
            ("a*a", "a", False),
            ("data", "Data", False),
            ("data", "data ", False),
        ],
    )
    def test_a_star_in_the_key_of_a_rule_stands_for_anything(
        self, pattern: str, key: str, matches: bool
    ) -> None:
        play = actor(on(START, pattern), on(STOP, "never"))
        # The rule with * also hears what becomes of tasks; begin where it has acted already.
        already = play.count("actor")

        play.send(key)

        assert play.count("actor") == (1 if matches else already)

    def test_an_execution_that_starts_later_does_not_hear_what_was_before(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.send("go")

        play.start()

        assert play.count("t") == 0


class TestOrderOfRules:
    @row("Order", "the rules of one task, for one event")
    def test_of_several_rules_the_first_whose_condition_is_met_acts(self) -> None:
        play = actor(GO, on(STOP, "both"), on(RESTART, "both"))
        bring_to(play, RUNNING)

        play.send("both")
        play.be_gone("actor")

        assert play.count("actor") == 1

    def test_a_rule_that_is_not_met_leaves_the_event_to_the_next(self) -> None:
        both = MeetAllCondition("state", (SingleEventCondition("x"), SingleEventCondition("y")))
        play = actor(TaskRule(STOP, both), on(START, "x"))

        play.send("x")

        assert play.status("actor") is QUEUED
        assert len(play.why("actor", "NOT MET")) == 1

    def test_each_task_has_its_own_rules(self) -> None:
        play = begun(ANCHOR, task("a", on(START, "x")), task("b", on(START, "x")))

        play.send("x")

        assert play.tasks() == [("anchor", "QUEUED"), ("a", "QUEUED"), ("b", "QUEUED")]


class TestStatusRules:
    @row("What starts", "a task with `START` rules")
    def test_a_task_starts_when_the_one_before_it_has_succeeded(self) -> None:
        play = begun(task("a"), task("b", after("a")), task("c", after("b")))

        play.succeed("a", "b", "c")

        assert play.end() == (WorkflowStatus.SUCCESS, "")
        assert [name for name, _ in play.tasks()] == ["a", "b", "c"]

    @pytest.mark.parametrize("end", ["fail", "stop"])
    def test_it_does_not_when_that_has_ended_otherwise(self, end: str) -> None:
        play = begun(ANCHOR, task("a"), task("b", after("a")))

        if end == "fail":
            play.fail("a")
        else:
            play.act(STOP, "a")
            play.be_gone("a")

        assert play.count("b") == 0

    @row("Conditions", "`start_after(tasks)`")
    def test_with_several_upstream_tasks_all_must_have_their_status(self) -> None:
        play = begun(ANCHOR, task("a"), task("b"), task("c", when(START, a=SUCCESS, b=FAILED)))

        play.succeed("a")
        assert play.count("c") == 0
        play.fail("b")
        assert play.count("c") == 1

    def test_the_order_in_which_upstream_tasks_end_does_not_matter(self) -> None:
        play = begun(ANCHOR, task("a"), task("b"), task("c", when(START, a=SUCCESS, b=FAILED)))

        play.fail("b")
        play.succeed("a")

        assert play.count("c") == 1

    def test_the_latest_execution_of_an_upstream_task_counts(self) -> None:
        play = begun(ANCHOR, task("a"), task("b"), task("c", after("a", "b")))
        play.succeed("a")
        play.act(START, "a")

        play.succeed("b")
        assert play.count("c") == 0

        play.succeed("a")
        assert play.count("c") == 1

    def test_it_starts_again_each_time_the_upstream_task_takes_the_status(self) -> None:
        play = begun(ANCHOR, task("a", on(RESTART, "again")), task("b", after("a")))
        for round in range(1, 4):
            play.succeed("a")
            assert play.count("b") == round
            play.succeed("b")
            play.send("again")

    def test_another_status_of_an_upstream_task_is_no_occasion(self) -> None:
        play = begun(ANCHOR, task("a"), task("b"), task("c", when(START, a=SUCCESS, b=RUNNING)))
        play.run("b")
        play.succeed("a")
        play.succeed("c")

        play.fail("b")

        assert play.count("c") == 1

    def test_a_task_can_be_stopped_and_restarted_by_the_status_of_others(self) -> None:
        play = begun(
            task("a"),
            task("b", when(STOP, a=SUCCESS)),
            task("c", when(RESTART, a=RUNNING)),
        )
        play.run("a")
        assert play.status("c") is STOPPING
        play.be_gone("c")
        assert play.count("c") == 2

        play.succeed("a")
        assert play.status("b") is STOPPING

    def test_an_event_without_a_value_is_no_status(self) -> None:
        play = begun(ANCHOR, task("a"), task("t", after("a"), on(STOP, "x")))
        play.succeed("a")
        play.run("t")

        play.send("x")

        assert play.status("t") is STOPPING

    @row("Conditions", "`action_on_task_status(action, {task: status, ...})`")
    def test_every_status_that_a_task_takes_is_an_occasion(self) -> None:
        watchers = [
            task(f"on_{status.lower()}", when(START, a=status))
            for status in (QUEUED, RUNNING, STOPPING, STOPPED, RETRYING, FAILED)
        ]
        play = begun(ANCHOR, task("a", retries=1), *watchers)
        play.run("a")
        play.fail("a")
        play.pass_time(0.001)
        play.fail("a")
        play.act(START, "a")
        play.act(STOP, "a")
        play.be_gone("a")

        assert [play.count(w.name) for w in watchers] == [1] * len(watchers)

    def test_other_executions_are_not_affected(self) -> None:
        play = Play(task("a"), task("b", after("a")))
        first, second = play.start(), play.start()

        play.succeed("a", execution_id=second)

        assert (play.count("b", first), play.count("b", second)) == (0, 1)

    def test_a_status_is_also_an_event_with_a_key(self) -> None:
        play = begun(ANCHOR, task("a"), task("b", on(START, "task_status.flow.a")))

        assert play.count("b") == 1  # by QUEUED


class TestRetries:
    @row("Options of a task", "`retries`")
    @row("Who is responsible, and until when", "`RETRYING`")
    def test_a_failed_attempt_is_tried_again_in_the_same_task_execution(self) -> None:
        play = begun(task("t", retries=2))

        for attempt in (1, 2):
            play.fail("t", f"reason {attempt}")
            assert play.status("t") is RETRYING
            assert play.task("t").reason == f"reason {attempt}"
            play.pass_time(0.001)
            assert play.status("t") is QUEUED
            assert play.attempt("t") == AttemptKey(1, "t", 1, attempt + 1)
        play.succeed("t")

        assert play.end() == (WorkflowStatus.SUCCESS, "")
        assert play.count("t") == 1

    def test_when_no_retry_is_left_the_task_has_failed(self) -> None:
        play = begun(task("t", retries=1))
        play.fail("t", "first")
        play.pass_time(0.001)

        play.fail("t", "second")

        assert play.status("t") is FAILED
        assert play.task("t").reason == "second"

    def test_a_new_task_execution_has_all_its_retries(self) -> None:
        play = begun(ANCHOR, task("t", retries=1))
        play.fail("t")
        play.pass_time(0.001)
        play.fail("t")

        play.act(START, "t")
        play.fail("t")

        assert play.status("t") is RETRYING

    @row("Options of a task", "`retry_backoff`")
    def test_the_delay_grows_by_the_backoff(self) -> None:
        play = begun(task("t", retries=3, retry_delay=10, retry_backoff=3))

        for delay in (10, 30, 90):
            play.fail("t")
            play.pass_time(delay - 0.001)
            assert play.status("t") is RETRYING
            play.pass_time(0.001)
            assert play.status("t") is QUEUED

    def test_downstream_tasks_hear_of_the_outcome_only(self) -> None:
        play = begun(
            ANCHOR, task("t", retries=1), task("b", after("t")), task("c", when(START, t=FAILED))
        )
        play.fail("t")
        play.pass_time(0.001)

        play.succeed("t")

        assert (play.count("b"), play.count("c")) == (1, 0)

    def test_a_stopped_attempt_is_not_tried_again(self) -> None:
        play = actor(GO, retries=5)
        bring_to(play, STOPPED)

        play.pass_time(DAY)

        assert play.status("actor") is STOPPED

    def test_retrying_is_published_because_no_executor_reports_it(self) -> None:
        play = begun(task("t", retries=1, retry_delay=5))

        play.fail("t")

        statuses = [(e.key, e.value) for e in play.published if e.key.startswith("task_status")]
        assert statuses == [("task_status.flow.t", "RETRYING")]


class TestTimeout:
    @row("Options of a task", "`timeout`")
    @row("Who is responsible, and until when", "`RUNNING`")
    def test_an_attempt_that_takes_too_long_is_stopped_and_has_failed(self) -> None:
        play = begun(task("t", timeout=60))
        play.run("t")

        play.pass_time(59.999)
        assert play.status("t") is RUNNING
        play.pass_time(0.001)
        assert play.status("t") is STOPPING
        play.be_gone("t")

        assert play.status("t") is FAILED
        assert play.task("t").reason == "timed out after 60 s"

    def test_the_time_in_the_queue_does_not_count(self) -> None:
        play = begun(task("t", timeout=60))

        play.pass_time(DAY)

        assert play.status("t") is QUEUED

    def test_each_attempt_has_its_own_time_and_retries_apply(self) -> None:
        play = begun(task("t", timeout=60, retries=1))
        for _ in range(2):
            play.pass_time(0.001)
            play.run("t")
            play.pass_time(60)
            play.be_gone("t")

        assert play.statuses("t").count("RETRYING") == 1
        assert play.end()[0] is WorkflowStatus.FAILED

    def test_an_attempt_that_ends_in_time_leaves_no_timer(self) -> None:
        play = begun(ANCHOR, task("t", timeout=60))
        play.run("t")
        play.succeed("t")

        assert play.state.timers == {}

    def test_the_next_task_execution_is_not_ended_by_the_time_of_the_last(self) -> None:
        play = begun(ANCHOR, task("t", timeout=60))
        play.run("t")
        play.pass_time(50)
        play.act(RESTART, "t")
        play.be_gone("t")
        play.run("t")

        play.pass_time(50)

        assert play.status("t") is RUNNING

    def test_a_success_that_comes_before_it_is_gone_counts(self) -> None:
        play = begun(task("t", timeout=60))
        play.run("t")
        play.pass_time(60)

        play.succeed("t")

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    def test_a_task_that_is_being_stopped_does_not_time_out(self) -> None:
        play = begun(ANCHOR, task("t", timeout=60, retries=1))
        play.run("t")
        play.act(STOP, "t")

        play.pass_time(DAY)
        play.be_gone("t")

        assert play.status("t") is STOPPED

    def test_stopping_a_task_that_has_timed_out_gives_up_its_retries(self) -> None:
        play = begun(ANCHOR, task("t", timeout=60, retries=1))
        play.run("t")
        play.pass_time(60)

        play.act(STOP, "t")
        play.be_gone("t")

        assert play.status("t") is STOPPED


class TestPeriodicTasks:
    @row("What starts", "a periodic task")
    def test_a_periodic_task_starts_with_the_execution_and_again_at_each_tick(self) -> None:
        play = begun(task("t", periodic_expression="interval@0 0 1 0"))
        assert play.count("t") == 1

        for tick in range(2, 6):
            play.succeed("t")
            play.pass_time(60)
            assert play.count("t") == tick

    def test_so_does_one_that_also_has_a_start_rule(self) -> None:
        play = begun(task("t", GO, periodic_expression="interval@0 0 1 0"))

        assert play.count("t") == 1

    def test_a_tick_restarts_a_task_that_still_runs(self) -> None:
        play = begun(task("t", periodic_expression="interval@0 0 1 0"))
        play.run("t")

        play.pass_time(60)
        play.be_gone("t")

        assert play.tasks() == [("t", "STOPPED"), ("t", "QUEUED")]

    def test_a_week_of_cron_ticks_is_kept_to_the_minute(self) -> None:
        play = begun(task("t", periodic_expression="cron@30 9 * * 1-5"))
        play.succeed("t")

        for day in range(1, 8):
            play.pass_time(9.5 * 3600 - 0.001)
            before = play.count("t")
            play.pass_time(0.001)
            assert play.count("t") == before + (1 if day <= 5 else 0)
            if day <= 5:
                play.succeed("t")
            play.pass_time(14.5 * 3600)

    @row("How an execution ends", "that is reactive, or has a periodic task")
    def test_a_periodic_task_keeps_the_execution_open(self) -> None:
        play = begun(task("t", periodic_expression="interval@1 0 0 0"))

        play.succeed("t")
        assert play.goes_on()

        play.stop()
        assert play.end()[0] is WorkflowStatus.STOPPED
        assert play.state.timers == {}

    @row("Options of a task", "`periodic_expression`")
    def test_ticks_that_were_missed_are_made_up_for_once(self) -> None:
        play = begun(task("t", periodic_expression="interval@0 0 1 0"))
        play.succeed("t")

        play.sleep_through(DAY)

        assert play.count("t") == 2

    def test_a_task_that_follows_a_periodic_one_runs_each_time(self) -> None:
        play = begun(task("t", periodic_expression="interval@0 0 1 0"), task("b", after("t")))

        for round in range(1, 4):
            play.succeed("t", "b")
            assert play.count("b") == round
            play.pass_time(60)


class TestEndOfAnExecution:
    @row("How an execution ends", "is `SUCCESS`")
    def test_success_when_all_that_ran_has_succeeded(self) -> None:
        play = begun(task("a"), task("b"))

        play.succeed("a")
        assert play.goes_on()
        play.succeed("b")

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    @row("How an execution ends", "with a task that was never triggered")
    def test_a_task_that_was_never_triggered_does_not_matter(self) -> None:
        play = begun(task("a"), task("never", GO), task("nor_this", after("never")))

        play.succeed("a")

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    def test_failure_names_the_task_and_why_and_what_never_started(self) -> None:
        play = begun(
            task("a"), task("b", after("a")), task("c", after("b")), task("d", GO), task("e")
        )
        play.succeed("e")

        play.fail("a", "no such luck")

        assert play.end() == (
            WorkflowStatus.FAILED,
            "task 'a' FAILED: no such luck; therefore never started: b, c",
        )

    def test_a_failed_task_that_was_run_again_with_success_is_forgiven(self) -> None:
        play = begun(ANCHOR, task("t"))
        play.fail("t")
        play.act(START, "t")
        play.succeed("t")

        play.succeed("anchor")

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    @row("How an execution ends", "is `STOPPED`")
    def test_stopped_when_a_task_was_and_none_has_failed(self) -> None:
        play = begun(task("a", on(STOP, "enough")), task("b", after("a")))

        play.send("enough")
        play.be_gone("a")

        status, reason = play.end()
        assert status is WorkflowStatus.STOPPED
        assert "task 'a' STOPPED" in reason
        assert reason.endswith("never started: b")

    @row("How an execution ends", "is `FAILED`")
    def test_failure_outweighs_stop(self) -> None:
        play = begun(task("a"), task("b"))
        play.act(STOP, "a")
        play.be_gone("a")

        play.fail("b")

        assert play.end()[0] is WorkflowStatus.FAILED

    @row("How an execution ends", "ends")
    def test_it_does_not_end_while_a_task_waits_to_be_tried_again(self) -> None:
        play = begun(task("a", retries=1, retry_delay=60))

        play.fail("a")

        assert play.goes_on()

    def test_it_does_not_end_between_a_task_and_the_one_after_it(self) -> None:
        play = begun(task("a"), task("b", after("a")))

        play.succeed("a")

        assert play.goes_on()

    @row("What starts", "a workflow in which no task starts by itself")
    def test_a_reactive_workflow_stays_open_until_it_is_stopped(self) -> None:
        play = begun(task("t", GO))
        assert play.goes_on()

        for round in range(1, 4):
            play.send("go")
            assert play.count("t") == round
            play.succeed("t")
            assert play.goes_on()

        play.stop()
        assert play.end() == (WorkflowStatus.STOPPED, "stopped on request")

    def test_a_reactive_workflow_stays_open_after_a_failure(self) -> None:
        play = begun(task("t", GO))
        play.send("go")

        play.fail("t")

        assert play.goes_on()

    def test_after_its_end_it_hears_nothing_and_leaves_nothing_behind(self) -> None:
        both = MeetAllCondition("state", (SingleEventCondition("x"), SingleEventCondition("y")))
        play = begun(task("a", timeout=9), task("b", GO), task("c", TaskRule(START, both)))
        play.send("x")
        play.run("a")
        play.succeed("a")
        play.end()

        play.send("go")
        play.send("y")

        assert play.tasks() == [("a", "SUCCESS")]
        assert [play.state.runs, play.state.timers, play.state.states] == [{}, {}, {}]

    def test_its_end_is_an_event(self) -> None:
        play = begun(task("a"))

        play.succeed("a")

        told = [(e.key, e.value) for e in play.published]
        assert told == [("workflow_status.flow", "RUNNING"), ("workflow_status.flow", "SUCCESS")]


class TestStoppingAnExecution:
    @row("Operations", "stop an execution")
    def test_it_is_stopped_when_the_last_task_is_gone(self) -> None:
        play = begun(task("a"), task("b"), task("c", retries=1, retry_delay=60))
        play.fail("c")

        play.stop()
        assert play.tasks() == [("a", "STOPPING"), ("b", "STOPPING"), ("c", "STOPPED")]
        play.be_gone("a")
        assert play.goes_on()
        play.be_gone("b")

        assert play.end() == (WorkflowStatus.STOPPED, "stopped on request")

    def test_nothing_starts_any_more(self) -> None:
        play = begun(
            ANCHOR,
            task("by_event", GO),
            task("by_status", when(START, anchor=STOPPED)),
            task("periodic", periodic_expression="interval@0 0 1 0"),
            task("restarted"),
            task("retried", retries=1),
        )
        play.act(RESTART, "restarted")

        play.stop()
        play.send("go")
        play.pass_time(DAY)
        play.fail("retried")
        play.be_gone("anchor", "periodic", "restarted")

        assert play.end()[0] is WorkflowStatus.STOPPED
        assert len(play.tasks()) == 4

    def test_requests_to_start_a_task_conflict(self) -> None:
        play = actor(GO)
        play.stop()

        for action in (START, RESTART):
            with pytest.raises(Refused, match="being stopped"):
                play.act(action, "actor")

    def test_it_ends_at_once_when_nothing_runs(self) -> None:
        play = begun(task("t", GO))

        play.stop()

        assert play.end()[0] is WorkflowStatus.STOPPED

    def test_stopping_again_changes_nothing(self) -> None:
        play = begun(task("a"))
        play.stop()

        play.stop()

        assert len(play.stops) == 1

    def test_a_task_that_fails_of_itself_before_the_stop_still_fails_the_execution(self) -> None:
        play = begun(task("a"), ANCHOR)
        play.fail("a", "broken")

        play.stop()
        play.be_gone("anchor")

        assert play.end()[0] is WorkflowStatus.FAILED

    def test_a_last_task_that_succeeds_while_being_stopped_leaves_it_stopped(self) -> None:
        play = begun(task("a"), task("b", after("a")))
        play.stop()

        play.succeed("a")

        assert play.end() == (WorkflowStatus.STOPPED, "stopped on request")
        assert play.tasks() == [("a", "SUCCESS")]

    def test_all_executions_of_a_workflow_stop_on_one_command(self) -> None:
        play = Play(task("a"))
        play.upload(task("a"), name="other")
        first, second, other = play.start(), play.start(), play.start("other")

        play.do(StopExecutions("flow", "default"))
        for execution in (first, second):
            play.be_gone("a", execution_id=execution)

        assert [play.end(e)[0] for e in (first, second)] == [WorkflowStatus.STOPPED] * 2
        assert play.goes_on(other)


class TestReports:
    def test_a_repeated_report_changes_nothing(self) -> None:
        play = begun(ANCHOR, task("t"))
        key = play.attempt("t")
        for status in (RUNNING, RUNNING, SUCCESS, SUCCESS, FAILED, RUNNING):
            play.report(key, status)

        assert play.statuses("t") == ["QUEUED", "RUNNING", "SUCCESS"]

    def test_a_report_of_an_earlier_attempt_is_ignored(self) -> None:
        play = begun(task("t", retries=1))
        first = play.attempt("t")
        play.fail("t")
        play.report(first, SUCCESS)
        assert play.status("t") is RETRYING
        play.pass_time(0.001)

        play.report(first, SUCCESS)

        assert play.status("t") is QUEUED

    def test_a_report_of_an_earlier_task_execution_is_ignored(self) -> None:
        play = begun(ANCHOR, task("t"))
        first = play.attempt("t")
        play.succeed("t")
        play.act(START, "t")

        play.report(first, FAILED)

        assert play.status("t") is QUEUED

    @pytest.mark.parametrize(
        "key",
        [AttemptKey(99, "t", 1), AttemptKey(1, "nobody", 1), AttemptKey(1, "t", 2)],
        ids=["execution", "task", "number"],
    )
    def test_a_report_of_what_is_not_known_is_ignored(self, key: AttemptKey) -> None:
        play = begun(task("t"))

        play.say(key, SUCCESS)

        assert play.tasks() == [("t", "QUEUED")]

    def test_a_late_report_that_it_runs_does_not_undo_the_stop(self) -> None:
        play = begun(task("t", timeout=60))
        play.act(STOP, "t")

        play.run("t")

        assert play.status("t") is STOPPING
        assert play.state.timers == {}

    @pytest.mark.parametrize("status", [QUEUED, STOPPING, RETRYING, TaskStatus.INIT])
    def test_a_status_that_no_executor_may_tell_is_ignored(self, status: TaskStatus) -> None:
        play = begun(task("t"))

        play.report(play.attempt("t"), status)

        assert play.status("t") is QUEUED


class TestMeetAllAndAny:
    def meet_all(self, *keys: str) -> TaskRule:
        return TaskRule(START, MeetAllCondition("seen", tuple(map(SingleEventCondition, keys))))

    def test_all_is_met_when_each_part_has_been_met_in_any_order(self) -> None:
        play = actor(self.meet_all("x", "y", "z"))

        for key in ("z", "x", "x", "z"):
            play.send(key)
            assert play.count("actor") == 0
        play.send("y")

        assert play.count("actor") == 1

    def test_all_starts_anew_when_it_was_met(self) -> None:
        play = actor(self.meet_all("x", "y"))
        for key in "xy":
            play.send(key)
        play.succeed("actor")

        play.send("y")
        assert play.count("actor") == 1
        play.send("x")

        assert play.count("actor") == 2

    def test_what_was_met_is_kept_apart_for_each_execution(self) -> None:
        play = Play(ANCHOR, task("t", self.meet_all("x", "y")))
        first, second = play.start(), play.start()

        play.send("x", only=first)
        play.send("y", only=second)

        assert (play.count("t", first), play.count("t", second)) == (0, 0)
        play.send("x", only=second)
        assert (play.count("t", first), play.count("t", second)) == (0, 1)

    def test_any_is_met_by_each_part(self) -> None:
        parts = (SingleEventCondition("x"), SingleEventCondition("y*"))
        play = actor(GO, TaskRule(RESTART, MeetAnyCondition(parts)))

        play.send("x")
        play.succeed("actor")
        play.send("yes")
        play.succeed("actor")
        play.send("no")

        assert play.count("actor") == 2

    def test_they_may_be_nested(self) -> None:
        either = MeetAnyCondition((SingleEventCondition("x"), SingleEventCondition("y")))
        play = actor(TaskRule(START, MeetAllCondition("s", (either, SingleEventCondition("z")))))

        play.send("z")
        assert play.count("actor") == 0
        play.send("y")

        assert play.count("actor") == 1


class TestCustomConditions:
    def test_an_event_that_concerns_the_condition_has_it_evaluated(self) -> None:
        play = actor(custom(START, "number"))

        play.send("other")
        assert play.waiting == []
        event = play.send("number", "5")

        (evaluation,) = play.waiting
        assert (evaluation.event, evaluation.task_name, evaluation.rule) == (event, "actor", 0)
        assert play.count("actor") == 0

    @row("Conditions", "`action_on_condition(action, condition)`")
    def test_the_action_follows_when_it_is_met(self) -> None:
        play = actor(custom(START, "number"))
        play.send("number")

        play.answer(True)

        assert play.status("actor") is QUEUED

    def test_nothing_follows_when_it_is_not(self) -> None:
        play = actor(custom(START, "number"))
        play.send("number")

        play.answer(False)

        assert play.count("actor") == 0

    def test_when_it_is_not_met_the_next_rule_is_tried_for_the_same_event(self) -> None:
        play = actor(custom(STOP, "number"), on(START, "number"))
        play.send("number")
        assert play.count("actor") == 0

        play.answer(False)

        assert play.status("actor") is QUEUED

    def test_when_it_is_met_no_further_rule_is_tried(self) -> None:
        play = actor(custom(START, "number"), custom(STOP, "number"))
        play.send("number")

        play.answer(True)

        assert play.waiting == []
        assert play.status("actor") is QUEUED

    def test_one_that_fails_counts_as_not_met_and_says_why(self) -> None:
        play = actor(custom(STOP, "number"), on(START, "number"))
        sent = play.send("number")

        play.answer(False, error="ZeroDivisionError: division by zero")

        assert play.status("actor") is QUEUED
        (letter,) = play.dead_letters
        assert (letter.offset, letter.error) == (
            sent.offset,
            "ZeroDivisionError: division by zero",
        )
        assert letter.consumer == "evaluation 1: task actor, rule 1"
        (why,) = play.why("actor", "NOT MET")
        assert "ZeroDivisionError" in why

    def test_what_it_leaves_in_its_state_is_kept_and_cleared(self) -> None:
        play = actor(custom(START, "number"))
        play.send("number")
        play.answer(False, total="5", other='"x"')
        scope = play.state.runs[1].scope
        assert {n: s.value for n, s in play.state.states[scope].items()} == {
            "total": "5",
            "other": '"x"',
        }

        play.send("number")
        play.answer(True, total="7", other=None)

        assert {n: s.value for n, s in play.state.states[scope].items()} == {"total": "7"}

    def test_events_are_evaluated_one_after_the_other_in_their_order(self) -> None:
        play = actor(custom(RESTART, "number"))
        for value in "123":
            play.send("number", value)

        for value in "123":
            (evaluation,) = play.waiting
            assert evaluation.event.value == value
            play.answer(False)
        assert play.waiting == []

    def test_an_answer_that_comes_again_changes_nothing(self) -> None:
        play = actor(GO, custom(RESTART, "number"))
        play.send("number")
        (evaluation,) = play.waiting
        play.answer(True)

        play.answer_to(evaluation, Answer(evaluation.id, True, {"total": "9"}))

        assert play.count("actor") == 1
        assert play.status("actor") is QUEUED
        assert play.state.states == {}

    def test_a_condition_under_evaluation_keeps_the_execution_open(self) -> None:
        play = begun(task("a"), task("b", custom(START, "number")))
        play.send("number")
        play.succeed("a")
        assert play.goes_on()

        play.answer(False)

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    def test_an_answer_after_the_execution_was_stopped_changes_nothing(self) -> None:
        play = begun(task("t", custom(START, "number")))
        for _ in range(3):
            play.send("number")
        play.stop()
        assert play.end()[0] is WorkflowStatus.STOPPED

        play.answer(True, total="1")

        assert play.tasks() == []
        assert play.waiting == []
        assert [play.state.evaluations, play.state.states] == [{}, {}]

    def test_two_conditions_that_share_a_state_are_not_evaluated_at_the_same_time(self) -> None:
        play = begun(ANCHOR, task("a", custom(START, "n")), task("b", custom(START, "n")))
        play.send("n")

        assert [e.task_name for e in play.waiting] == ["a"]
        play.answer(False, shared="1")
        assert [e.task_name for e in play.waiting] == ["b"]
        play.answer(False, shared="2")
        assert play.waiting == []

    def test_executions_do_not_wait_for_one_another_s_conditions(self) -> None:
        play = Play(ANCHOR, task("t", custom(START, "n")))
        play.start()
        play.start()

        play.send("n")

        assert len(play.waiting) == 2


class TestRedriving:
    """What became a dead letter is taken up again."""

    def failed(self, *rules: TaskRule) -> Play:
        """A task whose first rule, a condition of a user, has failed for an event."""
        play = actor(*(rules or (custom(START, "number"),)))
        play.send("number", "1")
        play.answer(False, error="ValueError: no")
        return play

    def redrive(self, play: Play) -> None:
        letter = play.dead_letters[-1]
        play.do(RedriveDeadLetters((Redriven(letter.key, letter.evaluation),)))

    def test_the_condition_is_asked_again_for_the_event(self) -> None:
        play = self.failed()
        (letter,) = play.dead_letters

        self.redrive(play)
        (evaluation,) = play.waiting
        play.answer(True)

        assert letter.evaluation is not None
        assert evaluation.event == letter.evaluation.event
        assert play.status("actor") is QUEUED
        assert play.dead_letters == [letter]
        assert play.redriven == [letter.key]
        (why,) = play.why("actor", "ASK AGAIN")
        assert "evaluation 1" in why

    def test_another_failure_makes_another_letter_that_can_be_redriven(self) -> None:
        play = self.failed()
        self.redrive(play)
        play.answer(False, error="ValueError: still not")

        first, second = play.dead_letters
        assert second.offset == first.offset
        assert second.consumer == "evaluation 2: task actor, rule 1"
        self.redrive(play)
        play.answer(True)

        assert play.status("actor") is QUEUED

    def test_the_rules_behind_it_had_their_turn_and_have_it_not_again(self) -> None:
        play = self.failed(custom(STOP, "number"), on(RESTART, "number"))
        assert play.count("actor") == 1

        self.redrive(play)
        play.answer(False)

        assert play.count("actor") == 1

    def test_it_waits_for_the_conditions_of_its_execution(self) -> None:
        play = self.failed()
        play.send("number", "2")

        self.redrive(play)
        play.answer(False)

        assert [e.event.value for e in play.waiting] == ["1"]

    def test_the_execution_stays_open_for_it(self) -> None:
        play = begun(task("a"), task("b", custom(START, "number")))
        play.send("number")
        play.answer(False, error="ValueError: no")
        self.redrive(play)

        play.succeed("a")
        assert play.goes_on()
        play.answer(False)

        assert play.end() == (WorkflowStatus.SUCCESS, "")

    def test_a_letter_of_an_execution_that_has_ended_is_refused(self) -> None:
        play = self.failed()
        play.stop()

        with pytest.raises(Refused, match=r"execution 1 is not running any more"):
            self.redrive(play)

        assert play.waiting == []
        assert play.redriven == []

    def test_of_several_letters_all_are_redriven_or_none(self) -> None:
        play = Play(ANCHOR, task("t", custom(START, "n")))
        play.start()
        play.start()
        play.send("n")
        for _ in range(2):
            play.answer(False, error="ValueError: no")
        play.stop(1)
        letters = tuple(Redriven(letter.key, letter.evaluation) for letter in play.dead_letters)

        with pytest.raises(Refused, match="execution 1 is not running"):
            play.do(RedriveDeadLetters(letters))

        assert play.waiting == []
        assert play.redriven == []

    def test_a_trigger_is_asked_again_unless_it_is_paused_or_gone(self) -> None:
        play = Play(ANCHOR)
        trigger = play.add_trigger(CustomCondition(("n",), code="code"))
        play.send("n")
        play.answer(False, error="ValueError: no")

        play.do(PauseTrigger(trigger, True))
        with pytest.raises(Refused, match="the trigger is paused"):
            self.redrive(play)
        play.do(PauseTrigger(trigger, False))
        self.redrive(play)
        play.answer(True)
        assert list(play.state.runs) == [1]

        play.do(DeleteTriggers((trigger,)))
        with pytest.raises(Refused, match="the trigger is gone"):
            self.redrive(play)

    def test_the_letter_of_a_status_names_the_event_that_led_to_it(self) -> None:
        play = begun(task("a"), task("b", custom(START, "task_status.flow.a")))
        play.answer(False, error="ValueError: no")
        play.run("a")
        play.answer(False, error="ValueError: no")

        letter = play.dead_letters[-1]
        assert play.log[letter.offset - 1].type is EventType.TASK_STATUS
        assert letter.evaluation is not None
        assert letter.evaluation.event.value == RUNNING

    def test_an_event_that_the_scheduler_could_not_take_in_is_taken_in_as_of_now(self) -> None:
        play = actor(custom(START, "go"))
        lost = Event("go", "x", namespace="default", offset=2, create_time=play.now)
        play.pass_time(60)

        play.do(RedriveDeadLetters((Redriven(LetterKey(2, "scheduler"), event=lost),)))

        assert play.redriven == [LetterKey(2, "scheduler")]
        (evaluation,) = play.waiting
        assert evaluation.event.value == "x"
        assert evaluation.event.create_time == lost.create_time + 60_000
        assert play.log[evaluation.event.offset - 1].type is EventType.COMMAND

    def test_one_that_does_harm_again_does_it_to_the_whole_step(self) -> None:
        play = actor(GO)
        bad = Event("x", "?", type=EventType.TASK_STATUS, context="?", offset=2)

        with pytest.raises(RuntimeError, match="event 2 again"):
            play.do(RedriveDeadLetters((Redriven(LetterKey(2, "scheduler"), event=bad),)))

    def test_a_request_is_not_redriven_by_somebody_else(self) -> None:
        play = actor(GO)
        command = Event("command", "{}", type=EventType.COMMAND, offset=2)

        with pytest.raises(Refused, match="it is a request"):
            play.do(RedriveDeadLetters((Redriven(LetterKey(2, "scheduler"), event=command),)))


class TestUploading:
    @row("Operations", "upload a workflow again")
    def test_a_running_execution_stays_on_the_snapshot_with_which_it_began(self) -> None:
        play = begun(ANCHOR, task("old", GO))

        play.upload(ANCHOR, task("new", GO))
        newer = play.start()
        play.send("go")

        assert [name for name, _ in play.tasks(1)] == ["anchor", "old"]
        assert [name for name, _ in play.tasks(newer)] == ["anchor", "new"]

    def test_an_upload_enables_the_workflow(self) -> None:
        play = Play(ANCHOR)
        play.do(EnableWorkflow("flow", "default", False))

        play.upload(ANCHOR)

        assert play.start() == 1

    def test_snapshots_that_nothing_needs_are_forgotten(self) -> None:
        play = begun(task("t"))
        play.upload(task("t"))
        play.upload(task("t"))
        assert sorted(play.state.plans) == [1, 3]

        play.succeed("t")

        assert sorted(play.state.plans) == [3]

    def test_a_wrong_definition_is_refused(self) -> None:
        play = Play()

        with pytest.raises(Refused) as refused:
            play.upload(task("a", after("nobody")))

        assert isinstance(refused.value.error, DefinitionError)
        assert play.state.workflows == {}


class TestDisabling:
    @pytest.fixture
    def play(self) -> Play:
        play = Play(ANCHOR)
        play.start()
        play.do(AddSchedule("flow", "default", "interval@0 0 1 0"))
        play.add_trigger(SingleEventCondition("go"))
        play.do(EnableWorkflow("flow", "default", False))
        return play

    @row("Operations", "disable a workflow")
    def test_no_execution_is_started_by_anybody(self, play: Play) -> None:
        with pytest.raises(Refused, match="disabled"):
            play.start()
        play.send("go")
        play.pass_time(DAY)

        assert list(play.executions) == [1]

    def test_what_runs_goes_on(self, play: Play) -> None:
        assert play.goes_on(1)
        play.succeed("anchor")
        assert play.end(1) == (WorkflowStatus.SUCCESS, "")

    @row("Operations", "enable a workflow")
    def test_when_it_is_enabled_schedules_and_triggers_start_executions_again(
        self, play: Play
    ) -> None:
        play.pass_time(DAY)
        play.do(EnableWorkflow("flow", "default", True))

        play.send("go")
        play.pass_time(60)

        assert [e.run_type for e in play.executions.values()] == [
            ExecutionType.MANUAL,
            ExecutionType.EVENT,
            ExecutionType.PERIODIC,
        ]


class TestDeleting:
    @row("Operations", "delete a workflow")
    def test_a_workflow_is_not_deleted_while_an_execution_runs(self) -> None:
        play = begun(task("t"))

        with pytest.raises(Refused, match="running executions: 1") as refused:
            play.do(DeleteWorkflow("flow", "default"))

        assert isinstance(refused.value.error, ConflictError)

    def test_nothing_of_a_deleted_workflow_acts_any_more(self) -> None:
        play = begun(task("t"))
        play.do(AddSchedule("flow", "default", "interval@0 0 1 0"))
        play.add_trigger(SingleEventCondition("go"))
        play.add_trigger(CustomCondition(expect_event_keys=("x",), code="code"))
        play.send("x")
        play.send("x")
        (evaluation,) = play.waiting
        play.succeed("t")

        play.do(DeleteWorkflow("flow", "default"))
        play.send("go")
        play.pass_time(DAY)
        play.answer_to(evaluation, Answer(evaluation.id, True))

        assert list(play.executions) == [1]
        left = {**vars(play.state)}
        for name in ("offset", "counters", "namespaces"):
            del left[name]
        assert not any(left.values()), left
        with pytest.raises(Refused) as refused:
            play.start()
        assert isinstance(refused.value.error, NotFoundError)


class TestSchedules:
    def schedule(self, expression: str) -> Play:
        play = Play(task("t"))
        play.do(AddSchedule("flow", "default", expression))
        return play

    def test_an_interval_starts_executions_by_the_clock(self) -> None:
        play = self.schedule("interval@0 0 10 0")

        play.pass_time(3600)

        assert len(play.executions) == 6
        assert {e.run_type for e in play.executions.values()} == {ExecutionType.PERIODIC}

    def test_a_cron_expression_is_in_utc(self) -> None:
        play = self.schedule("cron@15 6 * * 3")

        play.pass_time(7 * DAY)

        (execution,) = play.executions.values()
        assert execution.begin_date.isoformat() == "2023-11-22T06:15:00+00:00"

    def test_ticks_that_were_missed_are_made_up_for_once(self) -> None:
        play = self.schedule("interval@0 0 10 0")

        play.sleep_through(DAY)
        assert len(play.executions) == 1
        play.pass_time(600)

        assert len(play.executions) == 2

    @row("Operations", "pause a schedule")
    @row("Operations", "resume a schedule")
    def test_a_paused_schedule_does_not_fire_and_makes_up_for_nothing(self) -> None:
        play = self.schedule("interval@0 0 10 0")
        play.do(PauseSchedule(1, True))

        play.pass_time(DAY)
        play.do(PauseSchedule(1, False))
        play.pass_time(599)
        assert play.executions == {}
        play.pass_time(1)

        assert len(play.executions) == 1

    def test_a_deleted_schedule_does_not_fire(self) -> None:
        play = self.schedule("interval@0 0 10 0")
        play.do(DeleteSchedules((1,)))

        play.pass_time(DAY)

        assert play.executions == {}

    def test_a_tick_that_comes_again_is_ignored(self) -> None:
        play = self.schedule("interval@0 0 10 0")
        (timer,) = play.state.timers.values()
        play.pass_time(600)

        play.fire(timer)

        assert len(play.executions) == 1

    def test_a_tick_that_was_on_its_way_when_the_schedule_was_paused_is_ignored(self) -> None:
        play = self.schedule("interval@0 0 10 0")
        (timer,) = play.state.timers.values()
        play.do(PauseSchedule(1, True))

        play.fire(timer)

        assert play.executions == {}


class TestTriggers:
    @row("Triggers", "whose condition is met")
    def test_an_event_starts_an_execution(self) -> None:
        play = Play(task("t"))
        play.add_trigger(SingleEventCondition("go*"))

        play.send("no")
        play.send("go")
        play.send("go.on")

        assert [e.run_type for e in play.executions.values()] == [ExecutionType.EVENT] * 2

    def test_an_event_of_another_namespace_does_not(self) -> None:
        play = Play(task("t"))
        play.add_trigger(SingleEventCondition("go"))

        play.send("go", namespace="elsewhere")

        assert play.executions == {}

    @row("Triggers", "that is paused")
    def test_a_paused_trigger_is_not_evaluated(self) -> None:
        play = Play(task("t"))
        parts = (SingleEventCondition("x"), SingleEventCondition("y"))
        trigger = play.add_trigger(MeetAllCondition("seen", parts))
        play.do(PauseTrigger(trigger, True))
        play.send("x")
        play.do(PauseTrigger(trigger, False))

        play.send("y")
        assert play.executions == {}
        play.send("x")

        assert len(play.executions) == 1

    @row("Triggers", "that is deleted")
    def test_a_deleted_trigger_starts_nothing(self) -> None:
        play = Play(task("t"))
        play.do(DeleteTriggers((play.add_trigger(SingleEventCondition("go")),)))

        play.send("go")

        assert play.executions == {}

    @row("Order", "what an event starts and what it triggers")
    def test_the_event_that_started_an_execution_is_not_heard_by_it(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.add_trigger(SingleEventCondition("go"))

        play.send("go")

        assert play.tasks(1) == [("anchor", "QUEUED")]

    def test_running_executions_hear_an_event_that_also_starts_one(self) -> None:
        play = Play(ANCHOR, task("t", GO))
        play.add_trigger(SingleEventCondition("go"))
        running = play.start()

        play.send("go")

        assert play.count("t", running) == 1
        (started,) = play.executions.keys() - {running}
        assert play.count("t", started) == 0

    def test_a_trigger_remembers_across_executions(self) -> None:
        play = Play(task("t"))
        parts = (SingleEventCondition("x"), SingleEventCondition("y"))
        play.add_trigger(MeetAllCondition("seen", parts))

        for _ in range(2):
            play.send("x")
            play.send("y")

        assert len(play.executions) == 2

    def test_a_task_of_another_workflow_can_be_the_trigger(self) -> None:
        play = Play(task("t"))
        play.upload(task("train"), name="training")
        play.add_trigger(WorkflowTaskStatusCondition("training", "train", "default", FAILED))
        play.start("training")
        play.start("training")

        play.succeed("train", execution_id=1)
        assert len(play.executions) == 2
        play.fail("train", execution_id=2)

        assert play.executions[3].run_type is ExecutionType.EVENT

    def test_the_end_of_another_workflow_can_be_the_trigger(self) -> None:
        play = Play(task("t"))
        play.upload(task("a"), name="before")
        play.add_trigger(SingleEventCondition("workflow_status.before"))
        play.start("before")

        play.succeed("a")

        # RUNNING and SUCCESS of the workflow `before`
        assert [e.run_type for e in play.executions.values()][1:] == [ExecutionType.EVENT] * 2

    def test_a_user_s_condition_can_be_the_trigger(self) -> None:
        play = Play(task("t"))
        play.add_trigger(CustomCondition(expect_event_keys=("x",), code="code"))
        for _ in range(3):
            play.send("x")

        for met in (False, True, False):
            assert len(play.waiting) == 1
            play.answer(met, total="1")

        assert len(play.executions) == 1
        (states,) = play.state.states.values()
        assert list(states) == ["total"]


class TestWhateverHappens:
    """Invariants, for stories in which anything happens in any order."""

    @given(play=stories())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_the_state_is_a_function_of_the_log_however_it_is_cut(self, play: Play) -> None:
        for most in (1, 5, len(play.log)):
            state = State(namespaces={"default": Namespace("default")})
            engine = Engine(state)
            outbox, decisions = [], []
            for start in range(0, len(play.log), most):
                changes = Changes()
                for event in play.log[start : start + most]:
                    engine.apply(event, changes)
                outbox += changes.outbox
                decisions += changes.decisions

            assert seen(state) == seen(play.state)
            assert outbox == play.outbox
            assert decisions == play.decisions
            assert len({entry.id for entry in outbox}) == len(outbox)

    @given(play=stories())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_what_is_stored_or_sent_comes_back_from_json_as_it_was(self, play: Play) -> None:
        changes = Changes()
        engine = Engine(State(namespaces={"default": Namespace("default")}))
        for event in play.log:
            engine.apply(event, changes)

        kept = [value for value in changes.stored.values() if value is not None]
        for value in [*kept, *changes.outbox, *changes.decisions, *play.log]:
            assert decode(encode(value), type(value)) == value
        for reply in changes.replies:
            assert encode(decode(encode(reply), Reply)) == encode(reply)

    @given(play=stories())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_what_is_alive_has_something_that_it_waits_for(self, play: Play) -> None:
        timers, submitted = play.state.timers, play.submitted
        for run in play.state.runs.values():
            for live in run.alive:
                if live.status is RETRYING:
                    assert TimerKey(TimerKind.RETRY, run.execution.id, live.task_name) in timers
                else:
                    assert live.attempt in submitted
                if live.status is STOPPING:
                    assert live.attempt in play.stops
            mine = [e for e in play.state.evaluations.values() if e.scope == run.scope]
            assert len(mine) == run.evaluations
            assert not mine or mine[0] in play.waiting
            assert not run.execution.stopping or run.alive

    @given(play=stories())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_what_has_ended_stays_as_it_is_and_leaves_nothing_behind(self, play: Play) -> None:
        running = set(play.state.runs)
        assert {e.id for e in play.executions.values() if e.end_date is None} == running
        owners = {
            TimerKind.SCHEDULE: play.state.schedules,
            TimerKind.TRIGGER: play.state.triggers,
            ScopeKind.WORKFLOW: play.state.workflows,
            ScopeKind.TRIGGER: play.state.triggers,
        }
        for key in play.state.timers:
            assert key.owner in owners.get(key.kind, running)
        for scope in play.state.states:
            assert scope.id in owners.get(scope.kind, running)
        before: dict[int, TaskStatus] = {}
        for told in play.history:
            if told.id in before:
                assert may_follow(before[told.id], told.status)
            else:
                assert told.status is QUEUED
            before[told.id] = told.status
            if told.workflow_execution_id not in running and told is play.history[-1]:
                assert told.status in TASK_FINISHED

    @given(play=stories())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def test_at_most_one_execution_of_a_task_is_alive(self, play: Play) -> None:
        alive: dict[tuple[int, str], int] = {}
        for told in play.history:
            key = (told.workflow_execution_id, told.task_name)
            if told.status in TASK_FINISHED:
                del alive[key]
            else:
                assert alive.setdefault(key, told.id) == told.id

    @given(play=stories())
    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
    def test_everything_can_be_stopped_and_deleted(self, play: Play) -> None:
        play.end_everything()
        assert play.state.runs == {}

        play.delete()

        assert play.state.workflows == {}
        assert play.state.timers == {}
