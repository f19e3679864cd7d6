"""Rows of `docs/reference/rules.md` that no other test of the rules is about."""

import pytest

from aiflow_core.errors import ConflictError
from aiflow_core.model.condition import MeetAllCondition, SingleEventCondition
from aiflow_core.model.status import ExecutionType, TaskStatus, WorkflowStatus
from aiflow_scheduler_event.commands import DeleteTriggers, PauseTrigger
from aiflow_scheduler_event.state import Submit

from .play import START, STOP, Play, Refused, after, custom, on, task
from .rows import row


@row("Order", "the tasks that an event concerns")
def test_each_task_has_its_turn_execution_by_execution() -> None:
    go = on(START, "go")
    play = Play(task("anchor"), task("b", go), task("a", go))
    play.start()
    play.start()

    play.send("go")

    started = [(k.workflow_execution_id, k.task_name) for k in play.submitted]
    assert started[2:] == [(1, "b"), (2, "b"), (1, "a"), (2, "a")]


@row("Order", "events")
def test_what_an_event_leads_to_is_decided_before_the_next_is_looked_at() -> None:
    play = Play(task("anchor"), task("t", on(START, "go"), on(STOP, "enough")))
    play.start()

    for key in ("go", "enough", "go"):
        play.send(key)

    assert play.status("t") is TaskStatus.STOPPING
    assert play.why("t", "START ignored") != []


@row("Which executions an event reaches", "of any kind, in a namespace")
def test_a_trigger_looks_at_events_whatever_their_context() -> None:
    play = Play(task("t"))
    play.add_trigger(SingleEventCondition("go"))

    play.send("go", only=77)
    play.send("go", namespace="elsewhere")

    assert [e.run_type for e in play.executions.values()] == [ExecutionType.EVENT]


@row("Options of a task", "`retry_delay`")
def test_the_first_retry_comes_after_the_delay() -> None:
    play = Play(task("t", retries=1, retry_delay=60))
    play.start()
    play.fail("t")

    play.pass_time(59.999)
    assert play.status("t") is TaskStatus.RETRYING
    play.pass_time(0.001)

    assert play.status("t") is TaskStatus.QUEUED


@row("Options of a task", "`isolation`")
@pytest.mark.parametrize("isolation", ["forked", "fresh"])
def test_the_executor_is_told_of_the_isolation(isolation: str) -> None:
    play = Play(task("t", isolation=isolation))
    play.start()

    (submit,) = [e.message for e in play.outbox if isinstance(e.message, Submit)]

    assert submit.request.task.config.isolation == isolation


@row("Triggers", "that is resumed")
def test_a_trigger_that_is_resumed_goes_on_from_what_it_remembered() -> None:
    play = Play(task("t"))
    both = (SingleEventCondition("x"), SingleEventCondition("y"))
    trigger = play.add_trigger(MeetAllCondition("both", both))
    play.send("x")
    play.do(PauseTrigger(trigger, True))
    play.send("y")
    play.do(PauseTrigger(trigger, False))
    assert play.executions == {}

    play.send("y")

    assert len(play.executions) == 1


@row("Triggers", "that is deleted")
def test_with_the_last_trigger_goes_what_conditions_remembered() -> None:
    play = Play(task("t"))
    both = (SingleEventCondition("x"), SingleEventCondition("y"))
    first, second = (play.add_trigger(MeetAllCondition(name, both)) for name in "ab")
    play.send("x")

    play.do(DeleteTriggers((first,)))
    assert play.state.states
    play.do(DeleteTriggers((second,)))

    assert not any(play.state.states.values())
    play.add_trigger(MeetAllCondition("a", both))
    play.send("y")
    assert play.executions == {}


@row("Operations", "start an execution")
def test_any_number_of_executions_may_be_started() -> None:
    play = Play(task("t"))

    started = [play.start(), play.start()]

    assert started == [1, 2]
    assert {e.run_type for e in play.executions.values()} == {ExecutionType.MANUAL}


@row("Operations", "delete an execution")
def test_an_execution_is_deleted_when_it_has_ended() -> None:
    play = Play(task("t"))
    play.start()
    with pytest.raises(Refused, match="is running") as refused:
        play.delete(1)
    assert isinstance(refused.value.error, ConflictError)
    play.succeed("t")

    play.delete(1)

    assert play.state.runs == {}


@row("How an execution ends", "ends")
def test_a_failed_upstream_task_ends_the_execution() -> None:
    play = Play(task("first"), task("second", after("first")))
    play.start()

    play.fail("first", "no such file")

    assert play.executions[1].status is WorkflowStatus.FAILED
    assert "no such file" in play.executions[1].reason
    assert "never started: second" in play.executions[1].reason


@row("Conditions", "`action_on_condition(action, condition)`")
def test_a_condition_of_ones_own_is_asked_for_the_events_that_it_expects() -> None:
    play = Play(task("anchor"), task("t", custom(START, "number")))
    play.start()

    play.send("something else")
    assert play.waiting == []
    play.send("number")
    play.answer(met=True)

    assert play.status("t") is TaskStatus.QUEUED
