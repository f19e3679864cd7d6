"""Durable appends per second of the SQL event log, medians.

    python bench/event_store.py [URI]

Without a URI: a SQLite file in the current directory (put it on the disk that matters, not on a
RAM disk), beside a bare sqlite3 loop that commits the same rows in the same portions: the limit of
this machine, measured in the same run.
"""

import argparse
import sqlite3
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore

REPEATS = 5
SECONDS = 1.0
VALUE = "x" * 50

Append = Callable[[int], None]


def rate(append: Append, size: int, producers: int = 1) -> float:
    """Events per second when `producers` threads append lists of `size`; median of the repeats."""
    return statistics.median(once(append, size, producers) for _ in range(REPEATS))


def once(append: Append, size: int, producers: int) -> float:
    done = [0] * producers
    begin = time.perf_counter()
    end = begin + SECONDS

    def produce(producer: int) -> None:
        while time.perf_counter() < end:
            append(size)
            done[producer] += size

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - begin)


def latency_ms(store: SqlEventStore, count: int = 500) -> tuple[float, float]:
    """From the call of `append` until it returned, and until a subscriber had the event; medians.

    The subscriber's thread is in the same process.
    """
    arrived: list[float] = []
    has_it = threading.Semaphore(0)
    subscription = store.subscribe(store.head())

    def follow() -> None:
        for events in subscription:
            for _ in events:
                arrived.append(time.perf_counter())
                has_it.release()

    follower = threading.Thread(target=follow)
    follower.start()
    begun, returned = [], []
    for _ in range(count):
        begun.append(time.perf_counter())
        store.append([Event("k", VALUE)])
        returned.append(time.perf_counter())
        has_it.acquire()
    subscription.close()
    follower.join()
    pairs = zip(begun, returned, arrived, strict=True)
    to_return, to_arrive = zip(*((r - b, a - b) for b, r, a in pairs), strict=True)
    return statistics.median(to_return) * 1000, statistics.median(to_arrive) * 1000


def store_append(store: SqlEventStore) -> Append:
    def append(size: int) -> None:
        store.append([Event("k", VALUE) for _ in range(size)])

    return append


def bare_append(path: Path) -> Append:
    """The same rows and indexes through sqlite3 alone; for one thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(
        """
        PRAGMA journal_mode=WAL;
        PRAGMA synchronous=FULL;
        CREATE TABLE event (seq INTEGER PRIMARY KEY, event_id TEXT UNIQUE, type TEXT, ns TEXT,
            key TEXT, key_crc INTEGER, value TEXT, context TEXT, sender TEXT, create_ms INTEGER);
        CREATE INDEX event_by_key ON event (key_crc, seq);
        CREATE INDEX event_by_namespace ON event (ns, seq);
        CREATE INDEX event_by_time ON event (create_ms, seq);
        """
    )
    seq = 0

    def append(size: int) -> None:
        nonlocal seq
        now = time.time_ns() // 1_000_000
        rows = [
            (seq + n, uuid.uuid4().hex, "USER", "", "k", 1, VALUE, "", "", now)
            for n in range(1, size + 1)
        ]
        seq += size
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
        connection.execute("COMMIT")

    return append


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("uri", nargs="?")
    uri = parser.parse_args().uri
    with tempfile.TemporaryDirectory(dir=".") as directory:
        bare = bare_append(Path(directory, "bare.db"))
        with closing(SqlEventStore(uri or f"sqlite:///{directory}/events.db")) as store:
            store.initialize()
            append = store_append(store)
            print(f"{'events/s':24}{'store':>10}{'bare sqlite3':>14}")
            for size in (1, 100, 1000):
                figures = rate(append, size), rate(bare, size)
                print(
                    f"1 producer, {f'lists of {size}':12}{figures[0]:>10,.0f}{figures[1]:>14,.0f}"
                )
            print(f"64 producers, lists of 1{rate(append, 1, producers=64):>10,.0f}")
            returned, arrived = latency_ms(store)
            print(f"append {returned:.2f} ms, until a subscriber has it {arrived:.2f} ms")


if __name__ == "__main__":
    main()
