"""One seed, from the first event to the last check."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event, inspect, text

from aiflow_core.clock import Clock
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_scheduler_event.store import Store

from . import oracle
from .machine import Machine, Process
from .server import Server
from .workload import Client
from .world import Faults, World

BUSY = 5_000.0
"""Milliseconds during which clients are at work and things go wrong."""

PATIENCE = 120_000.0
"""Milliseconds after which everything must have come to its end when nothing goes wrong."""

_DAYS_BEFORE_1970 = 2440587.5


@dataclass(frozen=True)
class Outcome:
    """What one seed did.

    Attributes:
        milliseconds: of virtual time.
        lost_writes: writes that were refused because another server led.
    """

    seed: int
    fingerprint: str
    milliseconds: float
    events: int
    processes: int
    crashes: int
    lost_writes: int
    history: list[str]


class Desk:
    """The databases, made once and emptied for each seed, because making tables takes longer than a
    whole simulation."""

    def __init__(self, root: Path, servers: int = 3) -> None:
        self.root = root
        self.world = World(0)
        metadata = f"sqlite:///{root / 'metadata.db'}"
        self.stores = [Store(metadata) for _ in range(servers)]
        clock = _PresentClock(self)
        self.logs = [SqlEventStore(f"sqlite:///{root / 'log.db'}", clock=clock)]
        self.beside = [SqlEventStore(metadata, clock=clock) for _ in range(servers)]
        for engine in self._engines():
            event.listen(engine, "connect", self._set_clock)
        self.stores[0].initialize()
        self.logs[0].initialize()
        self.beside[0].initialize()

    def _engines(self) -> Iterator[Any]:
        for one in (*self.stores, *self.logs, *self.beside):
            yield one.engine if isinstance(one, Store) else one._engine

    def _set_clock(self, connection: Any, record: Any) -> None:
        """The database's clock is the world's, too."""

        def julian_day(moment: str) -> float:
            return _DAYS_BEFORE_1970 + self.world.clock.now_ms() / 86_400_000

        connection.create_function("julianday", 1, julian_day)

    def clear(self) -> None:
        """Back to new."""
        for store in (self.stores[0].engine, self.logs[0]._engine):
            with store.begin() as connection:
                for name in inspect(connection).get_table_names():
                    if name in ("log_head", "consumer") or name.endswith("_version"):
                        continue
                    connection.execute(text(f'DELETE FROM "{name}"'))
                    if name == "namespace":
                        connection.execute(text("INSERT INTO namespace VALUES ('default', '{}')"))
                for name in inspect(connection).get_table_names():
                    if name == "log_head":
                        connection.execute(text("UPDATE log_head SET seq = 0, last_ms = 0"))
                    if name == "consumer":
                        connection.execute(
                            text("UPDATE consumer SET last_seq = 0, counters = '{}', epoch = 0")
                        )

    def close(self) -> None:
        for one in (*self.stores, *self.logs, *self.beside):
            one.close()


class _PresentClock(Clock):
    """The time of the world that is on the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def now_ms(self) -> int:
        return self._desk.world.clock.now_ms()


@contextmanager
def desk() -> Iterator[Desk]:
    """A desk in memory, where there is such a file system."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
    made = Desk(root)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the history tells more
    try:
        yield made
    finally:
        logging.disable(before)
        made.close()
        shutil.rmtree(root)


HARSH = Faults(crash=0.015, lost=0.1, unanswered=0.1, pause=0.01, cut=0.02, power=0.3, repeated=0.3)
"""Everything goes wrong, all the time."""

PAUSES = Faults(unanswered=0.1, pause=0.03)
"""Nobody dies, but nobody can be relied upon."""

POWER = Faults(crash=0.02, unanswered=0.3, power=1.0)
"""Who dies takes his machine with him."""


def simulate(
    seed: int, desk: Desk, faults: Faults | None = None, with_patterns: bool = False
) -> Outcome:
    """Play the seed through; `Violation` when something does not hold. The seed also says how much
    goes wrong, unless `faults` does. Patterns are another play: seeds that once failed stay what
    they were."""
    desk.clear()
    world = desk.world = World(seed)
    chance = world.chance
    count = chance.choice((1, 2, 2, 3))
    shared_database = chance.random() < 0.4
    shared_executor = chance.random() < 0.2
    journal: list[Process] = []
    servers: list[Server] = []

    def told() -> None:
        for server in servers:
            server.poke()

    log = desk.beside[0] if shared_database else desk.logs[0]
    cluster = Machine(world, "cluster", journal)
    for number in range(count):
        name = f"server{number}"
        servers.append(
            Server(
                world,
                desk.root / name,
                desk.stores[number],
                desk.beside[number] if shared_database else log,
                cluster if shared_executor else Machine(world, name, journal),
                ha=count > 1,
                shared_database=shared_database,
                shared_executor=shared_executor,
                told=told,
            )
        )
    world.note("seed", seed, "servers", count, "shared database", shared_database)
    client = Client(world, log, told)
    drawn = Faults(
        crash=chance.choice((0.0, 0.004, 0.02)),
        lost=chance.choice((0.0, 0.02, 0.1)),
        unanswered=chance.choice((0.0, 0.02, 0.1)),
        pause=chance.choice((0.0, 0.02)),
        cut=chance.choice((0.0, 0.02)),
        power=chance.choice((0.0, 0.3)),
        repeated=chance.choice((0.0, 0.3)),
    )
    world.faults = drawn if faults is None else faults
    for server in servers:
        world.soon(200, server.start)
    world.after(50, lambda: client.begin(BUSY, with_patterns))
    world.run(BUSY)

    world.note("everything is well again")
    world.faults = Faults()
    for server in servers:
        server.heal()
    client.end(with_patterns)
    store = desk.stores[0]
    while not _is_quiet(servers, client, store, log.head()):
        if world.now > BUSY + PATIENCE:
            raise oracle.Violation(f"stuck: {oracle.unfinished(store)}, head {log.head()}")
        world.run(world.now + 500)
    events = log.read(limit=1_000_000)
    oracle.check_log(events, client.acknowledged)
    truth = oracle.check_state(store, events)
    oracle.check_told([a.told for server in servers for a in server.audiences], truth)
    oracle.check_processes(journal, oracle.submitted(truth), claimed=count > 1)
    return Outcome(
        seed,
        world.fingerprint,
        world.now,
        len(events),
        len(journal),
        sum("crashes" in line for line in world.history),
        sum(server.lost_writes for server in servers),
        world.history,
    )


def _is_quiet(servers: list[Server], client: Client, store: Store, head: int) -> bool:
    """Whether nothing is left to be done, by anybody."""
    return (
        client.unconfirmed == 0
        and all(server.is_alive and not server.running.reporter.waiting for server in servers)
        and any(server.has_decided(head) for server in servers)
        and not oracle.unfinished(store)
    )
