"""R11: many events through the whole path, and whether anything grows or slows down with them.

Producers append at a steady rate; every so many events is one that starts an execution, whose task
notes when it began. One listener hears all. At each tenth of the way the servers are measured.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import psutil

from aiflow_core.model.condition import SingleEventCondition
from aiflow_core.model.event import EVERYTHING, Event
from aiflow_core.specs.event_store import Subscription
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_server.scheduler import RemoteScheduler

from ..servers import until
from .campaign import Report, evidence
from .deployment import Deployment, deployed
from .figures import percentile
from .history import Appended, Entry, History, Transcript, made, read_lines, read_log, read_metadata
from .load import PLAN
from .oracle import FINISHED, Finding, judge

TENTHS = 10
BATCH = 10

# What was measured at the end may exceed what was measured at the first tenth by so much.
MOST_MEMORY = 1.05
MOST_DELAY = 1.2
# Below this many milliseconds a difference is that of the machine.
DELAY_FLOOR = 50.0
MOST_WAL = 64 * 2**20

CHECKS = (
    "offsets without gaps",
    "acknowledged events",
    "events of a producer",
    "listeners heard",
    "one execution per trigger event",
    "one status event",
    "one process per attempt",
    "success of an attempt",
    "executions and tasks at their end",
    "everything taken in",
)


@dataclass(frozen=True)
class Sample:
    """What the servers take at one moment.

    Attributes:
        memory, files, threads: of each server, in bytes and in numbers.
        wal: bytes of the write-ahead logs of the databases.
    """

    memory: dict[str, int]
    files: dict[str, int]
    threads: dict[str, int]
    wal: int


@dataclass
class Way:
    """What was noted on the way of the events."""

    appended: list[Appended] = field(default_factory=list)
    sent: dict[str, float] = field(default_factory=dict)
    heard: list[tuple[int, str]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)


def soak(events: int, rate: float, every: int) -> Report:
    """Send so many events, `rate` in a second, each `every`-th of which starts an execution."""
    report = Report(f"{events:,} events, {rate:g} in a second, an execution every {every}th")
    with evidence(report) as root, deployed(root) as deployment:
        deployment.start()
        deployment.upload()
        with RemoteScheduler(deployment.addresses.server_address) as scheduler:
            scheduler.add_workflow_trigger(SingleEventCondition("chaos.call"), "called")
        way = Way()
        samples: list[Sample] = []
        with closing(RemoteEventStore(deployment.addresses.log_uri, timeout=30.0)) as log:
            subscription = log.subscribe(0, EVERYTHING)
            listener = threading.Thread(target=_listen, args=(subscription, way), daemon=True)
            listener.start()
            began = time.monotonic()
            for _ in range(TENTHS):
                _send(log, way, events // TENTHS, rate, every)
                samples.append(_sample(deployment))
            took = time.monotonic() - began
            until(lambda: _is_quiet(deployment, log, way), seconds=120, facts=log.head)
            subscription.close()
            listener.join()
        for server in reversed(deployment.servers.values()):
            server.stop()
        history = _history(deployment, way)
        begins = _task_delays(history, way)
        _tell(report, samples, took)
        report.findings = [
            *(f for f in judge(history) if f.check.startswith(CHECKS)),
            *_growth(samples),
            _slower("an event until it is heard", way.delays),
            _slower("an event until the task that it starts begins", begins),
        ]
    return report


def _send(log: RemoteEventStore, way: Way, count: int, rate: float, every: int) -> None:
    began = time.monotonic()
    for first in range(0, count, BATCH):
        wait = began + first / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        number = len(way.appended)
        batch = [
            Event(
                "chaos.noise" if (number + place) % every else "chaos.call",
                str(number + place),
                namespace="default",
                sender="soak",
                id=f"soak-{number + place}",
            )
            for place in range(BATCH)
        ]
        now = time.monotonic()
        way.sent.update((event.id, now) for event in batch)
        for place, stored in enumerate(log.append(batch)):
            way.appended.append(Appended("soak", number + place, stored.id, stored.offset))


def _listen(subscription: Subscription, way: Way) -> None:
    for events in subscription:
        now = time.monotonic()
        for event in events:
            way.heard.append((event.offset, event.id))
            if event.id in way.sent:
                way.delays.append(now - way.sent[event.id])


def _sample(deployment: Deployment) -> Sample:
    memory, files, threads = {}, {}, {}
    for name, server in deployment.servers.items():
        process = psutil.Process(server.pid)
        memory[name] = process.memory_info().rss
        files[name] = process.num_fds()
        threads[name] = process.num_threads()
    wal = sum(file.stat().st_size for file in deployment.root.rglob("*-wal"))
    return Sample(memory, files, threads, wal)


def _is_quiet(deployment: Deployment, log: RemoteEventStore, way: Way) -> bool:
    head = log.head()
    found = read_metadata(deployment.addresses.metadata_database)
    return (
        found["position"] == head
        and bool(way.heard)
        and way.heard[-1][0] == head
        and not any(found["leftovers"].values())
        and all(row.status in FINISHED for row in found["executions"])
    )


def _history(deployment: Deployment, way: Way) -> History:
    return History(
        plan=replace(PLAN, schedules={}),
        log=read_log(deployment.addresses.log_database),
        appended=tuple(way.appended),
        journal=made(Entry, read_lines(deployment.journal)),
        transcripts=(Transcript("listener", 0, EVERYTHING, tuple(way.heard)),),
        **read_metadata(deployment.addresses.metadata_database),
    )


def _task_delays(history: History, way: Way) -> list[float]:
    """Seconds from each event that starts an execution until its task began."""
    ids = {event.offset: event.id for event in history.log if event.key == "chaos.call"}
    sent = {row.id: way.sent[ids[row.event_offset]] for row in history.executions}
    begun = [entry for entry in history.journal if entry.what == "begin"]
    return [entry.ns / 1e9 - sent[entry.execution] for entry in begun]


# --- what is told of it ------------------------------------------------------------------------


def _tell(report: Report, samples: Sequence[Sample], took: float) -> None:
    report.figures["seconds"] = f"{took:.0f}"
    for name in samples[0].memory:
        for what, values in {
            "MiB of": [sample.memory[name] / 2**20 for sample in samples],
            "files of": [sample.files[name] for sample in samples],
            "threads of": [sample.threads[name] for sample in samples],
        }.items():
            report.figures[f"{what} {name}, by tenths"] = " ".join(f"{v:.0f}" for v in values)
    wal = " ".join(f"{sample.wal / 2**20:.1f}" for sample in samples)
    report.figures["MiB of write-ahead logs, by tenths"] = wal


def _growth(samples: Sequence[Sample]) -> list[Finding]:
    memory, files, threads = [], [], []
    first, last = samples[0], samples[-1]
    half = len(samples) // 2
    for name in first.memory:
        if last.memory[name] > first.memory[name] * MOST_MEMORY:
            memory.append(f"{name}: {first.memory[name]}, then {last.memory[name]} bytes")
        for what, wrong in (("files", files), ("threads", threads)):
            numbers = [getattr(sample, what)[name] for sample in samples]
            if max(numbers[half:]) > max(numbers[:half]):
                wrong.append(f"{name}: {numbers}")
    largest = max(sample.wal for sample in samples)
    wal = [f"{largest} bytes"] if largest > MOST_WAL else []
    return [
        Finding(text, len(samples), tuple(wrong))
        for text, wrong in {
            f"memory at the end within {MOST_MEMORY:g} of the first tenth's": memory,
            "no more open files in the second half than in the first": files,
            "no more threads in the second half than in the first": threads,
            f"write-ahead logs within {MOST_WAL // 2**20} MiB": wal,
        }.items()
    ]


def _slower(what: str, delays: Sequence[float]) -> Finding:
    tenth = max(1, len(delays) // TENTHS)
    before, after = (percentile(part, 99) * 1000 for part in (delays[:tenth], delays[-tenth:]))
    text = f"p99 of {what}: {before:.0f} ms in the first tenth, {after:.0f} ms in the last"
    is_slower = after > max(before * MOST_DELAY, before + DELAY_FLOOR)
    return Finding(text, len(delays), (text,) if is_slower else ())
