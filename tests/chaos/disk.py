"""Lets the disk of a notification server fail at every place where the server writes or syncs.

`python -m tests.chaos.disk` sends 200 events to a real server on SQLite, one after the other, and
has strace answer its system calls: `ENOSPC` at each write of such a run, then `EIO` at each sync.
It prints what came of it, and ends with 1 when a promise was broken. `--points N` stops each of the
two after N places.

A run has many faults, so far apart that an append fits between two of them; the next run has them
one call later, until every call has failed.
"""

import argparse
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import grpc
import psutil

from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.errors import from_status
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.conversion import event_from_proto, event_to_proto
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

from ..notification import log_server

EVENTS = 200
# Large enough that the 200 events fill SQLite's log twice, and it is copied into the database.
VALUE = "v" * 5000
# So often an append is repeated; the faults are further apart than that.
TRIES = 5


@dataclass(frozen=True)
class Fault:
    """An error of a system call, with so many good calls between two of them.

    Attributes:
        apart: more calls than one append makes, or none would ever succeed. To copy its log into
            the database SQLite writes more often than that, so a run in which writes fail is one
            in which the log is never copied.
    """

    title: str
    call: str
    error: str
    apart: int


ENOSPC = Fault("ENOSPC at a write", "pwrite64", "ENOSPC", 60)
EIO = Fault("EIO at a sync", "fdatasync", "EIO", 10)


@dataclass(frozen=True)
class Figures:
    """What one run came to, or several together.

    Attributes:
        points: calls that failed.
        refused: appends that the server answered with an error; each was repeated.
        unfinished: events that were refused again and again, or that no server was there for.
        lost: events that were acknowledged and are not in the log, or not as it was said.
        doubled: events that are in the log more than once, or that nobody sent.
        unheard: events that a listener did not get once and in order.
        damaged: databases that do not pass `PRAGMA integrity_check`.
        died: servers that did not live to the end of the run.
        trusted: syncs of SQLite's log through a handle of which one had failed. The kernel may have
            given up the pages then, and the sync would succeed without them. (In the database
            itself SQLite writes all pages again after a failure.)
    """

    runs: int = 0
    points: int = 0
    refused: int = 0
    unfinished: int = 0
    lost: int = 0
    doubled: int = 0
    unheard: int = 0
    damaged: int = 0
    died: int = 0
    trusted: int = 0

    BROKEN: ClassVar = ("unfinished", "lost", "doubled", "unheard", "damaged", "died", "trusted")

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def broken(self) -> bool:
        """Whether the log has not kept a promise."""
        return any(getattr(self, name) for name in self.BROKEN)

    def lines(self) -> Iterator[str]:
        yield f"{self.points} points in {self.runs} runs"
        yield f"{self.refused} appends refused, and repeated"
        yield f"{self.unfinished} events not accepted in {TRIES} tries"
        yield f"{self.lost} events acknowledged and lost"
        yield f"{self.doubled} events twice or out of nowhere"
        yield f"{self.unheard} events that a listener missed, or got twice or too early"
        yield f"{self.damaged} databases damaged, {self.runs - self.damaged} pass the check"
        yield f"{self.died} servers died, {self.runs - self.died} recovered without a restart"
        yield f"{self.trusted} syncs of a file handle after one that had failed"


def survey(fault: Fault, points: int | None = None, events: int = EVENTS) -> Figures:
    """Runs with the fault at every call, or until there were so many."""
    figures = Figures()
    for first in range(1, fault.apart + 1):
        figures += run(fault, first, events)
        if points is not None and figures.points >= points:
            break
    return figures


def run(fault: Fault, first: int, events: int = EVENTS) -> Figures:
    """One server, to which `events` events are sent. Its first fault is the call number `first`."""
    sent = [Event(f"event.{n}", VALUE, id=str(n)) for n in range(events)]
    with TemporaryDirectory(prefix="aiflow-chaos-disk-") as directory:
        home = Path(directory)
        with serving(home, fault, first) as (server, address):
            acknowledged, refused, heard = send(address, sent)
            died = not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
        trace = (home / "trace").read_text()
        stored, is_whole = found(home / "ns.db")
    ids = Counter(event.id for event in stored)
    return Figures(
        runs=1,
        points=trace.count("(INJECTED)"),
        refused=refused,
        unfinished=len(sent) - len(acknowledged),
        lost=len(set(acknowledged) - set(stored)),
        doubled=sum(number > 1 for number in ids.values()) + len(ids.keys() - {e.id for e in sent}),
        unheard=sum(there != here for there, here in zip_longest(stored, heard)),
        damaged=int(not is_whole or [e.offset for e in stored] != list(range(1, len(stored) + 1))),
        died=int(died),
        trusted=synced_again(trace),
    )


@contextmanager
def serving(home: Path, fault: Fault, first: int) -> Iterator[tuple[psutil.Process, str]]:
    """A notification server whose system calls strace answers, and where it listens.

    At the end it is killed: what it has acknowledged must not need its orderly end.
    """
    database = home / "ns.db"
    with closing(SqlEventStore(f"sqlite:///{database}")) as store:
        store.initialize()
    strace = [
        *("strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path"),
        f"--output={home}/trace",
        *(f"--trace-path={database}{file}" for file in ("", "-wal", "-shm")),
        *("-e", "trace=pwrite64,fdatasync,close"),
        *("-e", f"inject={fault.call}:error={fault.error}:when={first}+{fault.apart}"),
    ]
    with ExitStack() as stack:
        # With a reader on the database the start of the server writes nothing, so that all faults
        # are those of a server that runs.
        with closing(sqlite3.connect(database)) as reader:
            reader.execute("SELECT * FROM log_head").fetchall()
            traced = stack.enter_context(log_server(home, f"sqlite:///{database}", under=strace))
        (process,) = psutil.Process(traced.process.pid).children()
        stack.callback(traced.process.wait)
        stack.callback(process.kill)
        yield process, traced.address


def send(address: str, events: list[Event]) -> tuple[list[Event], int, list[Event]]:
    """What the server acknowledged, how often it refused, and what a listener heard meanwhile."""
    acknowledged: list[Event] = []
    refused = 0
    with (
        grpc.insecure_channel(address) as channel,
        closing(RemoteEventStore(address)) as store,
        Follower(store.subscribe(0)) as follower,
    ):
        stub = NotificationServiceStub(channel)
        for event in events:
            request = pb.AppendEventsRequest(events=[event_to_proto(event)])
            for _ in range(TRIES):
                try:
                    answer = stub.appendEvents(request, timeout=10)
                except grpc.RpcError as error:
                    problem = from_status(error, address)
                    if not isinstance(problem, UnavailableError):
                        raise problem from error
                    refused += 1
                else:
                    acknowledged += map(event_from_proto, answer.events)
                    break
        try:
            heard = follower.take(len(acknowledged), timeout=10)
        except AssertionError as error:
            print(f"A listener missed something: {error}", file=sys.stderr)
            heard = []
    return acknowledged, refused, heard


def found(database: Path) -> tuple[list[Event], bool]:
    """The events in the database of a server that was killed, and whether SQLite finds it whole."""
    with closing(SqlEventStore(f"sqlite:///{database}")) as store:
        stored = store.read(limit=1_000_000)
    with closing(sqlite3.connect(database)) as connection:
        return stored, connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def synced_again(trace: str) -> int:
    """How often SQLite's log was synced through a handle of which a sync had failed before.

    A sync that had nothing to write lost nothing; SQLite makes one before it copies its log.
    """
    again = 0
    written: set[str] = set()  # handles with something to sync
    failed: set[str] = set()
    interrupted: dict[str, str] = {}  # by thread: the handle of the call that is to be resumed
    for line in trace.splitlines():
        found = re.match(r"(\d+) +(<\.\.\. )?(\w+)(?:\((\d+)<[^>]*-wal>)?", line)
        if not found:
            continue
        thread, resumed, call, handle = found.groups()
        handle = interrupted.pop(thread, None) if resumed else handle
        if handle is None:
            continue
        if line.endswith("<unfinished ...>"):
            interrupted[thread] = handle
        elif call == "pwrite64":
            written.add(handle)
        elif call == "close":
            failed.discard(handle)
        elif call == "fdatasync":
            again += handle in failed
            if "(INJECTED)" in line and handle in written:
                failed.add(handle)
            written.discard(handle)
    return again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--points", type=int, help="how many places of each kind; all, if not given"
    )
    points = parser.parse_args().points
    if shutil.which("strace") is None:
        sys.exit("This needs the program strace.")
    broken = False
    for fault in (ENOSPC, EIO):
        figures = survey(fault, points)
        print(fault.title, *figures.lines(), sep="\n  ", flush=True)
        broken = broken or figures.broken
    sys.exit(broken)


if __name__ == "__main__":
    main()
