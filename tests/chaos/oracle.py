"""What must hold of a history, however it came about: pure functions of it.

A check looks at each thing that it speaks of, and says what is wrong with it or "" when nothing is;
so one that has looked at nothing is told from one that has found nothing, and is a violation.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise, product
from typing import Any, NamedTuple, TypeVar

from aiflow_core.model.decision import FOLDED
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.timing import next_fire

from .history import Entry, ExecutionRow, History, TaskRow

FINISHED = frozenset({"SUCCESS", "FAILED", "STOPPED"})

# How an attempt may fail in a run in which processes are killed; everything else is a finding.
EXPLAINED = re.compile(
    r"killed by signal 9|vanished without a result|The process that (starts|prepares) tasks died"
    r"|lost (with its server|its lease)"
)

# A task that stood still together with its zygote goes on until that has ended it.
LAST_MOMENT_NS = 1_000_000_000

T = TypeVar("T")
Check = Callable[[History], Iterator[str]]

CHECKS: dict[str, Check] = {}


@dataclass(frozen=True)
class Finding:
    """What a check has found: how many things it looked at, and what is wrong with some."""

    check: str
    checked: int
    violations: tuple[str, ...]


def judge(history: History) -> list[Finding]:
    """The findings of every check."""
    return [_finding(name, check(history)) for name, check in CHECKS.items()]


def _finding(name: str, verdicts: Iterable[str]) -> Finding:
    said = list(verdicts) or ["there was nothing to look at, so nothing was shown"]
    return Finding(name, len(said), tuple(text for text in said if text))


def check(name: str) -> Callable[[Check], Check]:
    """Let `judge` make this check."""

    def keep(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return keep


# --- the log -----------------------------------------------------------------------------------


@check("offsets without gaps, ids without repetition, time forward")
def log_in_order(history: History) -> Iterator[str]:
    ids: set[str] = set()
    before = 0
    for place, event in enumerate(history.log, 1):
        if event.offset != place:
            yield f"place {place} of the log has offset {event.offset}"
        elif event.id in ids:
            yield f"event {event.offset}: its id {event.id} is there already"
        elif event.create_time < before:
            yield f"event {event.offset} is older than the one before it"
        else:
            yield ""
        ids.add(event.id)
        before = event.create_time


@check("acknowledged events in the log once, where it was said")
def acknowledged_events(history: History) -> Iterator[str]:
    offsets = _grouped(history.log, lambda event: event.id)
    for one in history.appended:
        found = [event.offset for event in offsets.get(one.id, ())]
        yield _unless(
            found == [one.offset],
            f"{one.producer} was told {one.offset} for its event {one.number}, found at {found}",
        )


@check("events of a producer in the order in which it sent them")
def order_of_producers(history: History) -> Iterator[str]:
    offsets = {event.id: event.offset for event in history.log}
    for producer, sent in _grouped(history.appended, lambda one: one.producer).items():
        in_order = sorted(sent, key=lambda one: one.number)
        for one, other in pairwise(in_order):
            yield _unless(
                offsets.get(one.id, 0) < offsets.get(other.id, 0),
                f"{producer}: event {other.number} does not stand behind {one.number}",
            )


@check("listeners heard what the log has: all, once, in order")
def transcripts(history: History) -> Iterator[str]:
    for transcript in history.transcripts:
        expected = [
            (event.offset, event.id)
            for event in history.log
            if event.offset > transcript.after and transcript.filter.matches(event)
        ]
        heard = list(transcript.heard)
        for number, one in enumerate(expected):
            right = number < len(heard) and heard[number] == one
            yield _unless(
                right, f"{transcript.name}: heard {heard[number : number + 1]} in place of {one}"
            )
            if not right:
                break  # everything behind it is displaced
        else:
            for extra in heard[len(expected) :]:
                yield f"{transcript.name}: heard {extra} beyond the end of the log"


# --- effects of the engine ---------------------------------------------------------------------


@check("one execution per request")
def requests(history: History) -> Iterator[str]:
    asked = {event.id: event.offset for event, _ in _commands(history, "StartExecution")}
    by_offset = _grouped(_of_type(history, "MANUAL"), lambda row: row.event_offset)
    for event, command in _commands(history, "StartExecution"):
        rows = by_offset.pop(event.offset, [])
        yield _unless(
            [row.workflow for row in rows] == [command["workflow_name"]],
            f"request {event.id} at {event.offset} has started {rows}",
        )
    for offset, rows in by_offset.items():
        yield f"nobody asked at {offset} for {rows}"
    of_id = {row.id: row for row in history.executions}
    for one in history.started:
        row = of_id.get(one.execution)
        yield _unless(
            row is not None
            and (row.workflow, row.event_offset) == (one.workflow, asked.get(one.request)),
            f"who asked for {one.workflow} was told {one}, the table has {row}",
        )


@check("one execution per trigger event")
def triggers(history: History) -> Iterator[str]:
    started = _grouped(_of_type(history, "EVENT"), lambda row: row.event_offset)
    for event in history.log:
        if event.type is EventType.USER and event.key in history.plan.triggers:
            rows = started.pop(event.offset, [])
            yield _unless(
                [row.workflow for row in rows] == [history.plan.triggers[event.key]],
                f"event {event.offset} ({event.key}) has started {rows}",
            )
    for offset, rows in started.items():
        yield f"no trigger event at {offset} for {rows}"


@check("one tick per schedule and moment, one execution per tick")
def ticks(history: History) -> Iterator[str]:
    started = _grouped(_of_type(history, "PERIODIC"), lambda row: row.event_offset)
    paused = {c["schedule_id"]: e.offset for e, c in _commands(history, "PauseSchedule")}
    fired = _grouped(_ticks(history), lambda tick: tick.schedule)
    for schedule, (workflow, expression) in history.plan.schedules.items():
        for tick in fired.get(schedule, []):
            due = tick.offset < paused.get(schedule, tick.offset + 1)
            rows = started.pop(tick.offset, [])
            yield _unless(
                [row.workflow for row in rows] == [workflow] * due,
                f"{tick} has started {rows}",
            )
        for one, other in pairwise(fired.get(schedule, [])):
            due_at = next_fire(expression, one.now)
            yield _unless(other.moment == due_at, f"{other} came where {due_at} was due")
    for offset, rows in started.items():
        yield f"no tick at {offset} for {rows}"


class _Tick(NamedTuple):
    schedule: int
    moment: int
    offset: int
    now: int


def _ticks(history: History) -> Iterator[_Tick]:
    """The ticks in the log, with the time that it was for the scheduler, which never goes back."""
    now = 0
    for event in history.log:
        now = max(now, event.create_time)
        if event.type is EventType.TIMER:
            alarm = json.loads(event.value or "")
            key, moment = alarm["timer"]["key"], alarm["timer"]["fire_at"]
            now = max(now, moment, alarm["now_ms"])
            if key["kind"] == "SCHEDULE":
                yield _Tick(key["owner"], moment, event.offset, now)


@check("one look at a task per success upstream, and one start")
def downstream_starts(history: History) -> Iterator[str]:
    decided: Counter[tuple[int, str, str]] = Counter()
    for d in history.decisions:
        decided[d.execution, d.task, d.what] += d.count
    tasks = _grouped(history.tasks, lambda row: (row.execution, row.task))
    for execution in history.executions:
        for task, upstream in history.plan.upstream.get(execution.workflow, {}).items():
            done = sum(_latest(tasks.get((execution.id, up), [])) == "SUCCESS" for up in upstream)
            start = int(done == len(upstream))
            found = {
                what: decided[execution.id, task, what]
                for what in ("START", "NOT MET", "START ignored")
            }
            wanted = {"START": start, "NOT MET": max(done - start, 0), "START ignored": 0}
            sequences = [row.sequence for row in tasks.get((execution.id, task), [])]
            yield _unless(
                found == wanted and sequences == [1] * start,
                f"{execution.workflow} {execution.id}, {task}: {done} of {len(upstream)} before it "
                f"have succeeded, decided {found}, executions {sequences}",
            )


@check("one decision per event that a rule waits for")
def rule_events(history: History) -> Iterator[str]:
    # Of those after which everything is as before the number is kept, and which was the latest.
    idle: Counter[tuple[int, str]] = Counter()
    decided: Counter[tuple[int, int, str]] = Counter()
    for d in history.decisions:
        if d.what in FOLDED:
            idle[d.execution, d.task] += d.count
        else:
            decided[d.offset, d.execution, d.task] += 1
    stopped = {c["workflow_execution_id"]: e.offset for e, c in _commands(history, "StopExecution")}
    # Key, and the execution that is meant (None: all) -> events. Looked up, because there are many.
    sent = _grouped(
        (event for event in history.log if event.type is EventType.USER),
        lambda event: (event.key, event.workflow_execution_id),
    )
    woke = _ends_of_who_woke(history)
    for execution in history.executions:
        until = stopped.get(execution.id, woke.get(execution.id, len(history.log) + 1))
        for task, keys in history.plan.heard.get(execution.workflow, {}).items():
            whom = product(keys, (None, execution.id))
            undecided = 0
            for event in chain.from_iterable(sent.get(one, ()) for one in whom):
                wanted = int(execution.event_offset < event.offset < until)
                found = decided[event.offset, execution.id, task]
                undecided += wanted - found
                if wanted or found:
                    yield _unless(
                        found <= wanted,
                        f"event {event.offset} ({event.key}) was decided on {found} times for "
                        f"{task} of execution {execution.id}, not {wanted}",
                    )
            yield _unless(
                undecided == idle[execution.id, task],
                f"{task} of execution {execution.id}: nothing followed from "
                f"{idle[execution.id, task]} events, not from {undecided}",
            )


@check("one execution of a task per decision to start it")
def task_executions(history: History) -> Iterator[str]:
    starts = Counter(
        (d.execution, d.task)
        for d in history.decisions
        if d.what in ("START", "RESTART") and d.task
    )
    rows = _grouped(history.tasks, lambda row: (row.execution, row.task))
    for key in starts.keys() | rows.keys():
        sequences = sorted(row.sequence for row in rows.get(key, []))
        yield _unless(
            sequences == list(range(1, starts[key] + 1)),
            f"{key}: started {starts[key]} times, its executions are {sequences}",
        )


@check("one status event per transition of a task")
def task_status_events(history: History) -> Iterator[str]:
    told: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for event, context in _status_events(history, EventType.TASK_STATUS):
        task = tuple(context[n] for n in ("workflow_execution_id", "task_name", "sequence_number"))
        told[*task, context["try_number"], event.sender == "scheduler"].append(event.value or "")
    for attempt, statuses in told.items():
        for status, count in Counter(statuses).items():
            yield _unless(count == 1, f"{attempt} was told {count} times as {status}")
    for row in history.tasks:
        for number in range(1, row.attempt + 1):
            key = (row.execution, row.task, row.sequence, number)
            ends = [status for status in told[*key, False] if status in FINISHED]
            decided = [status for status in told[*key, True] if status != "STOPPED"]
            again = number < row.attempt or told[*key, True] == ["RETRYING", "STOPPED"]
            yield _unless(
                # An attempt that was given up for lost may still tell its end, which is too late.
                (len(ends) == 1 or (history.several and len(ends) > 1))
                and (ends[0] == "SUCCESS") == (number == row.attempt and row.status == "SUCCESS")
                and decided == ["RETRYING"] * again,
                f"attempt {number} of {row} was told as {ends} and, by the scheduler, {decided}",
            )


@check("one status event per transition of an execution")
def execution_status_events(history: History) -> Iterator[str]:
    told = Counter(
        (context["workflow_execution_id"], event.value)
        for event, context in _status_events(history, EventType.WORKFLOW_STATUS)
    )
    for row in history.executions:
        for status in {"RUNNING", row.status}:
            count = told.pop((row.id, status), 0)
            yield _unless(count == 1, f"execution {row.id} was told {count} times as {status}")
    for (execution, status), count in told.items():
        yield f"execution {execution} was told {count} times as {status}, which it is not"


# --- processes ---------------------------------------------------------------------------------


@check("one process per attempt, of an attempt that there is")
def processes(history: History) -> Iterator[str]:
    last = {(row.execution, row.task, row.sequence): row.attempt for row in history.tasks}
    begun = _grouped(_entries(history, "begin"), lambda entry: entry.key)
    for key, entries in begun.items():
        known = 1 <= key[3] <= last.get(key[:3], 0)
        yield _unless(
            len(entries) == 1 and known,
            f"attempt {key} began in {[entry.pid for entry in entries]}, "
            f"the table has attempts up to {last.get(key[:3])}",
        )


@check("attempts only grow, and never overlap")
def attempts_in_order(history: History) -> Iterator[str]:
    ended = {entry.key: entry for entry in _entries(history, "end")}
    begun = _grouped(_entries(history, "begin"), lambda entry: (entry.execution, entry.task))
    for entries in begun.values():
        in_time = sorted(entries, key=lambda entry: entry.ns)
        for entry in in_time:
            woke = any(_stood_still(history, e, entry.ns) for e in entries if e.key < entry.key)
            yield _unless(entry.alone or woke, f"{entry.key} began while another attempt still ran")
        for one, other in pairwise(in_time):
            end = ended.get(one.key, one)
            older, newer = sorted((one, other), key=lambda entry: entry.key)
            yield _unless(
                (one.key < other.key and end.ns < other.ns)
                or (older.key < newer.key and _stood_still(history, older, newer.ns)),
                f"{other.key} began after {one.key}, which had not ended",
            )


@check("success of an attempt that did its work")
def successes(history: History) -> Iterator[str]:
    lines = {(entry.what, entry.key) for entry in history.journal}
    for row in history.tasks:
        if row.status == "SUCCESS":
            key = (row.execution, row.task, row.sequence, row.attempt)
            missing = [what for what in ("begin", "end") if (what, key) not in lines]
            yield _unless(not missing, f"{key} is SUCCESS, its journal lacks {missing}")


@check("ends of attempts, those that failed by what was done")
def failures(history: History) -> Iterator[str]:
    for event, context in _status_events(history, EventType.TASK_STATUS):
        if event.value in FINISHED:
            reason = context["reason"]
            yield _unless(
                event.value != "FAILED" or bool(EXPLAINED.search(reason)),
                f"event {event.offset}, {event.sender}: {reason!r}",
            )


# --- the end -----------------------------------------------------------------------------------


@check("executions and tasks at their end")
def nothing_stuck(history: History) -> Iterator[str]:
    for row in history.executions:
        wanted = {"STOPPED"} if row.workflow in history.plan.reactive else {"SUCCESS", "FAILED"}
        yield _unless(row.status in wanted, f"{row} should have ended with one of {wanted}")
    for task in history.tasks:
        yield _unless(task.status in FINISHED, f"{task} has not ended")


@check("executions that failed because of a task that did")
def failed_executions(history: History) -> Iterator[str]:
    failed = {row.execution for row in history.tasks if row.status == "FAILED"}
    for row in history.executions:
        yield _unless(
            (row.status == "FAILED") == (row.id in failed), f"{row}: has a failed task, or has none"
        )


@check("everything taken in, nothing left to be sent")
def nothing_left(history: History) -> Iterator[str]:
    head = history.log[-1].offset if history.log else 0
    yield _unless(
        history.position == head, f"the scheduler stands at {history.position}, the log at {head}"
    )
    for name, count in history.leftovers.items():
        yield _unless(count == 0, f"{count} rows are left in {name}")


@check("no answer and no end of a process that nobody expected")
def no_surprises(history: History) -> Iterator[str]:
    yield from history.surprises or ("",)


# --- helpers -----------------------------------------------------------------------------------


def _unless(holds: bool, violation: str) -> str:
    return "" if holds else violation


def _grouped(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def _of_type(history: History, run_type: str) -> list[ExecutionRow]:
    return [row for row in history.executions if row.run_type == run_type]


def _stood_still(history: History, entry: Entry, ns: int) -> bool:
    """Whether the attempt's process stood still at that time, or had just woken."""
    return any(
        entry.pid in pause.pids and pause.began_ns <= ns <= pause.ended_ns + LAST_MOMENT_NS
        for pause in history.pauses
    )


def _ends_of_who_woke(history: History) -> dict[int, int]:
    """Where the log tells the end of an execution, of those of which a process stood still: it may
    send something afterwards, before it is ended."""
    pids = {pid for pause in history.pauses for pid in pause.pids}
    executions = {entry.execution for entry in history.journal if entry.pid in pids}
    return {
        context["workflow_execution_id"]: event.offset
        for event, context in _status_events(history, EventType.WORKFLOW_STATUS)
        if event.value in FINISHED and context["workflow_execution_id"] in executions
    }


def _entries(history: History, what: str) -> list[Entry]:
    return [entry for entry in history.journal if entry.what == what]


def _latest(rows: list[TaskRow]) -> str:
    return max(rows, key=lambda row: row.sequence).status if rows else ""


def _commands(history: History, kind: str) -> Iterator[tuple[Event, dict[str, Any]]]:
    for event in history.log:
        if event.type is EventType.COMMAND:
            command = json.loads(event.value or "")
            if command["type"] == kind:
                yield event, command


def _status_events(history: History, of_type: EventType) -> Iterator[tuple[Event, dict[str, Any]]]:
    for event in history.log:
        if event.type is of_type:
            yield event, json.loads(event.context)
