"""Two real servers on a machine whose clock is set: `python -m tests.chaos.clocks [CASE ...]`.

The clock that both of them read is faked (`faketime`), and set while they run; what they wait with
is not, as on a real machine. A schedule ticks each second, another each minute. Afterwards the log
and the metadata are read, and each tick must follow on the one before as it was promised: none
twice, none left out but those that one makes up for, and nothing that ends before it began.
"""

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from aiflow_core.clock import to_ms
from aiflow_core.model.serialization import decode
from aiflow_core.testing.timing_model import first_after
from aiflow_scheduler_event.state import Alarm, TimerKind

from ..servers import TwoServers, kill, prepared, processes_of, until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

WORKFLOW = """\
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="{name}") as workflow:
    BashOperator(name="only", bash_command="true")
"""
SCHEDULES = {"seconds": "interval@0 0 0 1", "minutes": "cron@* * * * *"}

HOUR, DAY = 3600, 86400

# Seconds until a due tick must be in the log. The timers look at the clock as often as the
# schedule of each second is due, and where that waits for the clock, each 30 seconds.
SOON = 5.0
LOOK = 40.0


class MovedClock:
    """The clock of the servers: the machine's own, and so many seconds more."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0.0
        self._write()

    def set(self, offset: float) -> None:
        """Set it to so many seconds more than the machine's own."""
        self._offset = offset
        self._write()

    def begin_at(self, *moment: int) -> None:
        self.set(to_ms(datetime(*moment, tzinfo=UTC)) / 1000 - time.time())  # type: ignore[misc]

    def now_ms(self) -> int:
        return round((time.time() + self._offset) * 1000)

    def environment(self) -> dict[str, str]:
        """What lets a program that is started with it read this clock."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _write(self) -> None:
        # As a whole, because it is read all the time.
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._offset:+f}\n")
        new.rename(self._file)


class Tick(NamedTuple):
    """A timer of a schedule that became an event.

    Attributes:
        due: the moment for which it was set.
        now: the time that the scheduler went on with.
    """

    offset: int
    schedule: int
    due: int
    now: int


@dataclass(frozen=True)
class Stage:
    """The servers, their clock, and what they have written."""

    servers: TwoServers
    clock: MovedClock
    zone: str

    def ticks(self) -> list[Tick]:
        """Every tick in the log, in order."""
        events = self._rows(
            self.servers.notification_home,
            "SELECT seq, create_ms, value FROM event WHERE type = 'TIMER' ORDER BY seq",
        )
        found = [(seq, created, decode(value, Alarm)) for seq, created, value in events]
        return [
            Tick(seq, a.timer.key.owner, a.timer.fire_at, max(created, a.timer.fire_at, a.now_ms))
            for seq, created, a in found
            if a.timer.key.kind is TimerKind.SCHEDULE
        ]

    def tick(self, more: int, seconds: float = SOON) -> None:
        """Return when the schedule of each second has ticked so many times more."""
        before = len(self.ticks())
        until(lambda: len(self.ticks()) >= before + more, seconds + more, self.ticks)

    def nothing_ticks(self, seconds: float) -> None:
        """Time passes in which nothing is due."""
        time.sleep(SOON)  # what was under way arrives
        before = self.ticks()
        time.sleep(seconds)
        assert self.ticks() == before, "a tick before its time"

    def restart(self) -> None:
        """Kill the AIFlow server and start it again."""
        self.servers.crash("aiflow")
        self._started("aiflow server start -d")

    def started(self) -> None:
        self._started("notification server start -d")
        self._started("aiflow server start -d")

    def metadata(self, query: str) -> list[tuple[int | None, ...]]:
        return self._rows(self.servers.home, query)

    def log(self, query: str) -> list[tuple[int | None, ...]]:
        return self._rows(self.servers.notification_home, query)

    def _started(self, command: str) -> None:
        more = {**self.clock.environment(), "TZ": self.zone}
        faked = replace(self.servers, environment={**self.servers.environment, **more})
        faked.run(command)

    def _rows(self, home: Path, query: str) -> list[tuple[int | None, ...]]:
        (file,) = home.glob("*.db")
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query).fetchall()


@dataclass(frozen=True)
class Case:
    """What happens to the clock.

    Attributes:
        begins: at which moment, UTC; now when there is none.
    """

    happens: Callable[[Stage], None]
    begins: tuple[int, ...] = ()
    zone: str = "UTC"


def jump_forward(seconds: float) -> Callable[[Stage], None]:
    def happens(stage: Stage) -> None:
        stage.tick(3)
        stage.clock.set(seconds)
        stage.tick(5, LOOK)

    return happens


def jump_back(seconds: float) -> Callable[[Stage], None]:
    def happens(stage: Stage) -> None:
        stage.tick(3)
        stage.clock.set(-seconds)
        stage.nothing_ticks(10)
        stage.restart()
        stage.nothing_ticks(5)
        stage.clock.set(0)  # it is set right
        stage.tick(5, LOOK)

    return happens


def pass_the_turn(stage: Stage) -> None:
    """It is a few seconds away when all begins."""
    stage.tick(10, LOOK)
    stage.restart()
    stage.tick(3, LOOK)


CASES = {
    "an hour forward": Case(jump_forward(HOUR)),
    "a day forward": Case(jump_forward(DAY)),
    "an hour back": Case(jump_back(HOUR)),
    "a day back": Case(jump_back(DAY)),
    "summer time begins": Case(pass_the_turn, (2027, 3, 28, 0, 59, 54), "Europe/Berlin"),
    "a leap day begins": Case(pass_the_turn, (2028, 2, 28, 23, 59, 54)),
}


@dataclass
class Findings:
    """What the log and the metadata say when all is over."""

    ticks: int = 0
    twice: list[Tick] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    negative: list[tuple[int | None, ...]] = field(default_factory=list)

    @property
    def are_good(self) -> bool:
        return self.ticks > 0 and not (self.twice or self.lost or self.negative)

    def __str__(self) -> str:
        return (
            f"{self.ticks} ticks, {len(self.twice)} twice, {len(self.lost)} lost, "
            f"{len(self.negative)} negative durations"
        )


def examined(stage: Stage) -> Findings:
    """Look at everything that was written. The servers are gone."""
    ticks = stage.ticks()
    found = Findings(ticks=len(ticks))
    seen: set[tuple[int, int]] = set()
    for tick in ticks:
        if (tick.schedule, tick.due) in seen:
            found.twice.append(tick)
        seen.add((tick.schedule, tick.due))
    started = stage.metadata("SELECT id FROM workflow_execution WHERE run_type = 'PERIODIC'")
    (place,) = stage.metadata("SELECT last_seq FROM consumer")[0]
    taken_in = [tick for tick in ticks if tick.offset <= (place or 0)]
    if len(started) != len(taken_in):
        found.lost.append(f"{len(taken_in)} ticks, {len(started)} executions")
    for id, expression in enumerate(SCHEDULES.values(), 1):
        mine = [tick for tick in ticks if tick.schedule == id]
        for before, after in pairwise(mine):
            # Time is that of the whole log, of which a tick of the other schedule may be the last.
            now = max(tick.now for tick in ticks if tick.offset <= before.offset)
            expected = first_after(expression, now)
            if after.due != expected:
                found.lost.append(f"{expression}: {after} is not {expected}")
    armed = stage.metadata("SELECT owner, fire_at FROM timer WHERE kind = 'SCHEDULE'")
    if len(armed) != len(SCHEDULES):
        found.lost.append(f"of {len(SCHEDULES)} schedules only {armed} go on")
    for table in ("workflow_execution", "task_execution"):
        found.negative += stage.metadata(
            f"SELECT id, begin_date, end_date FROM {table} WHERE end_date < begin_date"
        )
    times = [row[0] or 0 for row in stage.log("SELECT create_ms FROM event ORDER BY seq")]
    found.negative += [(a, b) for a, b in pairwise(times) if b < a]
    return found


@contextmanager
def staged(root: Path, case: Case) -> Iterator[Stage]:
    """The servers on their own clock, with the schedules; at the end no process of them is left."""
    servers = prepared(root)
    stage = Stage(servers, MovedClock(root / "clock"), case.zone)
    if case.begins:
        stage.clock.begin_at(*case.begins)
    try:
        stage.started()
        for name, expression in SCHEDULES.items():
            folder = root / name
            folder.mkdir()
            (folder / "workflow.py").write_text(WORKFLOW.format(name=name))
            servers.upload(folder / "workflow.py")
            servers.run(f"aiflow workflow-schedule add {name} '{expression}'")
        yield stage
    finally:
        kill(processes_of(servers.home))
        sweep()


def sweep() -> None:
    """Remove what faketime keeps in memory for processes that were killed."""
    for file in Path("/dev/shm").glob("*faketime_s*_*"):
        if not psutil.pid_exists(int(file.name.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def play(root: Path, case: Case) -> Findings:
    """Let the case happen, kill everything, and look."""
    with staged(root, case) as stage:
        case.happens(stage)
        kill(processes_of(stage.servers.home))
        return examined(stage)


def main(names: list[str]) -> int:
    if not LIBRARIES:
        print("faketime is not installed: `apt-get install faketime`.", file=sys.stderr)
        return 1
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"There is no case {unknown[0]!r}; there are {', '.join(CASES)}.", file=sys.stderr)
        return 1
    good = True
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as root:
            found = play(Path(root), CASES[name])
        good = good and found.are_good
        print(f"{name}: {found}", flush=True)
        for what in (*found.twice, *found.lost, *found.negative):
            print(f"    {what}")
    return 0 if good else 2


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    sys.exit(main(sys.argv[1:]))
