"""The oracle finds nothing in a history that is as it must be, and each doctored line in others."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from aiflow_core.model.event import EVERYTHING, Event, EventType

from .chaos.history import (
    Appended,
    DecisionRow,
    Entry,
    ExecutionRow,
    History,
    Pause,
    Plan,
    Started,
    TaskRow,
    Transcript,
)
from .chaos.oracle import CHECKS, judge

PLAN = Plan(
    upstream={
        "pair": {"a": frozenset(), "b": frozenset(["a"])},
        "called": {"answer": frozenset()},
        "tick": {"tock": frozenset()},
    },
    heard={"switch": {"lamp": frozenset(["on", "off"])}},
    triggers={"call": "called"},
    schedules={1: ("tick", "interval@0 0 0 2")},
    reactive=frozenset(["switch"]),
)


def command(request: str, kind: str, **facts: Any) -> Event:
    value = json.dumps({"type": kind, **facts})
    return Event("command", value, id=request, type=EventType.COMMAND)


def task_status(
    execution: int, task: str, attempt: int, status: str, sender: str = "executor", reason: str = ""
) -> Event:
    context = {
        "workflow_execution_id": execution,
        "task_name": task,
        "sequence_number": 1,
        "try_number": attempt,
        "reason": reason,
    }
    return Event(
        f"task_status.{task}",
        status,
        sender=sender,
        context=json.dumps(context),
        type=EventType.TASK_STATUS,
    )


def workflow_status(execution: int, status: str) -> Event:
    context = json.dumps({"workflow_execution_id": execution})
    return Event("workflow_status", status, context=context, type=EventType.WORKFLOW_STATUS)


def tick(moment: int) -> Event:
    timer = {"key": {"kind": "SCHEDULE", "owner": 1, "task_name": ""}, "fire_at": moment}
    value = json.dumps({"timer": timer, "now_ms": moment})
    return Event("timer.SCHEDULE", value, type=EventType.TIMER)


def logged(*events: Event) -> tuple[Event, ...]:
    """The events with offsets from 1, a second apart."""
    return tuple(
        msgspec.structs.replace(
            event, offset=offset, id=event.id or f"e{offset}", create_time=offset * 1000
        )
        for offset, event in enumerate(events, 1)
    )


LOG = logged(
    command("r1", "StartExecution", workflow_name="pair"),
    workflow_status(1, "RUNNING"),
    task_status(1, "a", 1, "RUNNING"),
    task_status(1, "a", 1, "FAILED", reason="killed by signal 9 (SIGKILL)"),
    task_status(1, "a", 1, "RETRYING", sender="scheduler"),
    task_status(1, "a", 2, "SUCCESS"),
    task_status(1, "b", 1, "SUCCESS"),
    workflow_status(1, "SUCCESS"),
    Event("call"),  # 9
    workflow_status(2, "RUNNING"),
    task_status(2, "answer", 1, "SUCCESS"),
    workflow_status(2, "SUCCESS"),
    tick(12_500),  # 13
    workflow_status(3, "RUNNING"),
    task_status(3, "tock", 1, "SUCCESS"),
    workflow_status(3, "SUCCESS"),
    tick(15_000),  # 17
    workflow_status(4, "RUNNING"),
    task_status(4, "tock", 1, "SUCCESS"),
    workflow_status(4, "SUCCESS"),
    command("r2", "StartExecution", workflow_name="switch"),  # 21
    workflow_status(5, "RUNNING"),
    Event("on"),  # 23
    task_status(5, "lamp", 1, "RUNNING"),
    Event("off"),  # 25
    task_status(5, "lamp", 1, "STOPPED"),
    command("r3", "StopExecution", workflow_execution_id=5),
    workflow_status(5, "STOPPED"),
    command("r4", "PauseSchedule", schedule_id=1),
)


def ran(execution: int, task: str, attempt: int, begin: int, end: int | None) -> list[Entry]:
    moments = {"begin": begin, "end": end}
    return [
        Entry(what, execution, task, 1, attempt, 100 + begin, moment)
        for what, moment in moments.items()
        if moment is not None
    ]


GOOD = History(
    plan=PLAN,
    log=LOG,
    appended=tuple(
        Appended("producer", number, f"e{offset}", offset)
        for number, offset in enumerate((9, 23, 25))
    ),
    started=(Started("r1", "pair", 1), Started("r2", "switch", 5)),
    journal=(
        *ran(1, "a", 1, 1, None),
        *ran(1, "a", 2, 2, 3),
        *ran(1, "b", 1, 4, 5),
        *ran(2, "answer", 1, 6, 7),
        *ran(3, "tock", 1, 8, 9),
        *ran(4, "tock", 1, 10, 11),
        *ran(5, "lamp", 1, 12, None),
    ),
    transcripts=(Transcript("listener", 3, EVERYTHING, tuple((e.offset, e.id) for e in LOG[3:])),),
    executions=(
        ExecutionRow(1, "pair", "SUCCESS", "MANUAL", 1),
        ExecutionRow(2, "called", "SUCCESS", "EVENT", 9),
        ExecutionRow(3, "tick", "SUCCESS", "PERIODIC", 13),
        ExecutionRow(4, "tick", "SUCCESS", "PERIODIC", 17),
        ExecutionRow(5, "switch", "STOPPED", "MANUAL", 21),
    ),
    tasks=(
        TaskRow(1, "a", 1, 2, "SUCCESS"),
        TaskRow(1, "b", 1, 1, "SUCCESS"),
        TaskRow(2, "answer", 1, 1, "SUCCESS"),
        TaskRow(3, "tock", 1, 1, "SUCCESS"),
        TaskRow(4, "tock", 1, 1, "SUCCESS"),
        TaskRow(5, "lamp", 1, 1, "STOPPED"),
    ),
    decisions=(
        DecisionRow(1, 1, "a", "START"),
        DecisionRow(6, 1, "b", "START"),
        DecisionRow(9, 2, "answer", "START"),
        DecisionRow(13, 3, "tock", "START"),
        DecisionRow(17, 4, "tock", "START"),
        DecisionRow(23, 5, "lamp", "START"),
        DecisionRow(25, 5, "lamp", "STOP"),
    ),
    leftovers={"outbox": 0},
    position=len(LOG),
)

Doctor = Callable[[History], History]


def without(name: str, place: int) -> Doctor:
    """The history without one of its lines."""

    def doctor(history: History) -> History:
        lines = getattr(history, name)
        return replace(history, **{name: lines[:place] + lines[place + 1 :]})

    return doctor


def changed(name: str, place: int, **facts: Any) -> Doctor:
    """The history with one of its lines changed."""

    def doctor(history: History) -> History:
        lines = list(getattr(history, name))
        before = lines[place]
        change = msgspec.structs.replace if isinstance(before, Event) else replace
        lines[place] = change(before, **facts)
        return replace(history, **{name: tuple(lines)})

    return doctor


def with_more(name: str, *more: Any) -> Doctor:
    """The history with lines added at its end."""

    def doctor(history: History) -> History:
        return replace(history, **{name: (*getattr(history, name), *more)})

    return doctor


def heard(*places: int) -> Doctor:
    """The listener heard the events at these places of what it should have heard."""

    def doctor(history: History) -> History:
        (transcript,) = history.transcripts
        chosen = tuple(transcript.heard[place] for place in places)
        return replace(history, transcripts=(replace(transcript, heard=chosen),))

    return doctor


ALL = list(range(len(LOG) - 3))

# The beginning of a check's name -> what is wrong -> the history in which it is.
CASES: dict[str, dict[str, Doctor]] = {
    "offsets without gaps": {
        "a gap in the log": without("log", 4),
        "an id twice": changed("log", 24, id="e9"),
        "time going back": changed("log", 24, create_time=1),
    },
    "acknowledged events": {
        "an acknowledged event lost": without("log", 8),
        "an acknowledged event elsewhere": changed("appended", 0, offset=8),
        "an acknowledged event twice": changed("log", 24, id="e9"),
    },
    "events of a producer": {
        "two events swapped": changed("appended", 0, number=5),
    },
    "listeners heard": {
        "a gap in a transcript": heard(*ALL[:4], *ALL[5:]),
        "a repetition in a transcript": heard(0, *ALL),
        "disorder in a transcript": heard(1, 0, *ALL[2:]),
        "a transcript cut short": heard(*ALL[:-1]),
        "a transcript beyond the log": heard(*ALL, 0),
    },
    "one execution per request": {
        "a request that started nothing": without("executions", 0),
        "a request that started two": with_more(
            "executions", ExecutionRow(6, "pair", "SUCCESS", "MANUAL", 1)
        ),
        "another execution than was said": changed("started", 0, execution=2),
        "an execution nobody asked for": changed("executions", 0, event_offset=2),
    },
    "one execution per trigger": {
        "a trigger event without effect": without("executions", 1),
        "a trigger event with two effects": with_more(
            "executions", ExecutionRow(6, "called", "SUCCESS", "EVENT", 9)
        ),
        "a trigger without an event": changed("executions", 1, event_offset=10),
    },
    "one tick per schedule": {
        "a tick without effect": without("executions", 2),
        "a tick with two effects": with_more(
            "executions", ExecutionRow(6, "tick", "SUCCESS", "PERIODIC", 17)
        ),
        "a tick that was left out": changed("log", 16, value=tick(17_000).value),
        "a tick that came twice": changed("log", 16, value=tick(12_500).value),
    },
    "one look at a task": {
        "no downstream start": without("decisions", 1),
        "two downstream starts": with_more("decisions", DecisionRow(6, 1, "b", "START")),
        "a look too many": with_more("decisions", DecisionRow(6, 1, "b", "NOT MET")),
        "a start too early": changed("tasks", 0, status="FAILED"),
    },
    "one decision per event": {
        "an event no rule has seen": without("decisions", 6),
        "an event that a rule has seen twice": with_more(
            "decisions", DecisionRow(25, 5, "lamp", "STOP ignored")
        ),
    },
    "one execution of a task": {
        "a start without an execution": without("tasks", 5),
        "an execution without a start": with_more("tasks", TaskRow(5, "lamp", 2, 1, "STOPPED")),
    },
    "one status event per transition of a task": {
        "a transition told twice": with_more("log", task_status(1, "b", 1, "SUCCESS")),
        "two ends of one attempt": with_more(
            "log", task_status(1, "b", 1, "FAILED", reason="killed by signal 9")
        ),
        "an end that was not told": changed("log", 10, value="RUNNING"),
        "a retry that was not told": changed("log", 4, value="RUNNING"),
        "a success that was not told": changed("tasks", 5, status="SUCCESS"),
    },
    "one status event per transition of an execution": {
        "the end of an execution told twice": with_more("log", workflow_status(1, "SUCCESS")),
        "the end of an execution not told": without("log", 7),
        "another end of an execution told": with_more("log", workflow_status(1, "FAILED")),
    },
    "one process per attempt": {
        "an attempt in two processes": with_more("journal", *ran(1, "b", 1, 13, 14)),
        "a process of an attempt that never was": with_more("journal", *ran(1, "b", 2, 13, 14)),
    },
    "attempts only grow": {
        "an attempt that was not alone": changed("journal", 1, alone=False),
        "an earlier attempt later": changed("journal", 0, ns=3),
        "an attempt that ended after the next began": with_more(
            "journal", Entry("end", 1, "a", 1, 1, 101, 4)
        ),
    },
    "success of an attempt": {
        "success without an end": without("journal", 4),
        "success without a begin": without("journal", 3),
    },
    "ends of attempts": {
        "a failure for no reason": changed(
            "log", 3, context=task_status(1, "a", 1, "", reason="boom").context
        ),
    },
    "executions and tasks at": {
        "an execution that does not end": changed("executions", 0, status="RUNNING"),
        "a task that does not end": changed("tasks", 0, status="RETRYING"),
    },
    "executions that failed": {
        "a failure without a failed task": changed("executions", 0, status="FAILED"),
        "a success with a failed task": changed("tasks", 0, status="FAILED"),
    },
    "everything taken in": {
        "events not taken in": lambda history: replace(history, position=3),
        "messages not sent": lambda history: replace(history, leftovers={"outbox": 2}),
    },
    "no answer": {
        "an answer nobody expected": with_more("surprises", "boom"),
    },
}


def test_the_oracle_finds_nothing_in_a_history_as_it_must_be() -> None:
    findings = judge(GOOD)

    assert [text for finding in findings for text in finding.violations] == []
    assert all(finding.checked for finding in findings)


@pytest.mark.parametrize(
    ("check", "doctor"),
    [
        pytest.param(check, doctor, id=story)
        for check, cases in CASES.items()
        for story, doctor in cases.items()
    ],
)
def test_the_oracle_finds_what_was_doctored(check: str, doctor: Doctor) -> None:
    found = violated(doctor(GOOD))

    assert any(name.startswith(check) for name in found), found


def test_every_check_is_shown_to_bite() -> None:
    assert [name for name in CHECKS if not any(name.startswith(check) for check in CASES)] == []


def test_a_check_that_has_looked_at_nothing_has_shown_nothing() -> None:
    found = violated(replace(GOOD, appended=()))

    assert {check.split()[0] for check in found} == {"acknowledged", "events"}


def test_what_was_given_up_for_lost_may_tell_its_end_too_late() -> None:
    told_twice = with_more("log", task_status(1, "b", 1, "FAILED", reason="killed by signal 9"))(
        GOOD
    )

    assert "one status event per transition of a task" in violated(told_twice)
    assert "one status event per transition of a task" not in violated(
        replace(told_twice, several=True)
    )


def violated(history: History) -> set[str]:
    """The checks that have found something."""
    return {finding.check for finding in judge(history) if finding.violations}


@pytest.mark.parametrize(
    "overlap",
    [
        changed("journal", 1, alone=False),
        changed("journal", 0, ns=3),
        with_more("journal", Entry("end", 1, "a", 1, 1, 101, 4)),
    ],
    ids=["not alone", "began late", "ended late"],
)
def test_who_stood_still_may_wake_beside_his_successor(overlap: Doctor) -> None:
    """Whose process cannot be ended, as long as what ends it stands still as well."""
    history = overlap(GOOD)
    name = next(name for name in CHECKS if name.startswith("attempts only grow"))
    pid, begun = GOOD.journal[0].pid, GOOD.journal[1].ns

    def violations(pause: Pause) -> tuple[str, ...]:
        found = {f.check: f.violations for f in judge(replace(history, pauses=(pause,)))}
        return found[name]

    assert not violations(Pause([pid], begun, begun + 1))
    assert violations(Pause([pid + 1], begun, begun + 1)), "another one stood still"
    assert violations(Pause([pid], begun + 1, begun + 2)), "it stood still later"
    assert violations(Pause([pid], -(10**10), begun - 2 * 10**9)), "it had long woken"


def test_who_woke_may_still_say_something_to_an_execution_that_has_ended() -> None:
    """Nobody decides on that any more; who did not stand still has ended before his execution."""
    nobody_stopped_it = command("r3", "PauseSchedule", schedule_id=1)
    log = logged(*LOG[:26], nobody_stopped_it, *LOG[27:], Event("on"))
    late = replace(GOOD, log=log, position=len(log))
    name = next(name for name in CHECKS if name.startswith("one decision per event"))
    lamp = GOOD.journal[-1].pid

    def violations(*pauses: Pause) -> tuple[str, ...]:
        found = {f.check: f.violations for f in judge(replace(late, pauses=pauses))}
        return found[name]

    assert not violations(Pause([lamp], 0, 1))
    assert violations(Pause([lamp + 1], 0, 1)), "another one stood still"
    assert violations(), "nobody did"
