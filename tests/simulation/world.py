"""Time and chance: what happens next, and what goes wrong."""

import hashlib
import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError

START_MS = 1_700_000_000_000


class Crash(BaseException):
    """A process is gone, in the midst of whatever it did. No `except Exception` stops it."""


@dataclass(frozen=True)
class Faults:
    """How likely things go wrong; each is a probability, per occasion.

    Attributes:
        crash: at a crash point.
        lost: a request to a log or database that does not get there.
        unanswered: one that is carried out, but whose answer is lost.
        pause: of a server, per turn, for up to three leases.
        cut: of a server from its log or its database, per turn, for up to two leases.
        power: a machine goes down rather than a process, per crash.
        repeated: a delivery of events that comes a second time.
    """

    crash: float = 0.0
    lost: float = 0.0
    unanswered: float = 0.0
    pause: float = 0.0
    cut: float = 0.0
    power: float = 0.0
    repeated: float = 0.0


class World:
    """Runs what is due, in the order of virtual time; what is due at the same moment in an order
    that chance decides.

    Attributes:
        now: milliseconds since the start.
        epoch: the newest in which a server has begun to lead.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.faults = Faults()
        self.epoch = 0
        self.clock = SimulatedClock(self)
        self._due: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self._trace = hashlib.sha256()
        self.history: list[str] = []

    def note(self, *facts: object) -> None:
        """Put a line into the history, by which two runs can be compared."""
        line = f"{self.now:.1f} " + " ".join(map(str, facts))
        self.history.append(line)
        self._trace.update(line.encode())

    @property
    def fingerprint(self) -> str:
        """The same for two runs in which the same happened."""
        return self._trace.hexdigest()

    def after(self, delay: float, what: Callable[[], None]) -> None:
        """Do something in `delay` milliseconds."""
        self._count += 1
        heapq.heappush(self._due, (self.now + delay, self.chance.random(), self._count, what))

    def soon(self, longest: float, what: Callable[[], None]) -> None:
        """Do something within `longest` milliseconds."""
        self.after(self.chance.uniform(0.1, longest), what)

    def happens(self, probability: float) -> bool:
        """Whether it does, this time."""
        return probability > 0 and self.chance.random() < probability

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, _, what = heapq.heappop(self._due)
            what()
        self.now = until

    def crossing(self, what: Callable[[], None]) -> "Crossing":
        """A message to somebody else and back, which may be lost either way."""
        return Crossing(self, what)


class Crossing:
    """`with world.crossing(check):` - what is inside happens unless the request was lost."""

    def __init__(self, world: World, check: Callable[[], None]) -> None:
        self._world = world
        self._check = check

    def __enter__(self) -> None:
        self._check()
        if self._world.happens(self._world.faults.lost):
            raise UnavailableError("The request was lost.")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._world.happens(self._world.faults.unanswered):
            raise UnavailableError("The answer was lost.")


class SimulatedClock(Clock):
    """The time of the world. Nobody can wait for it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return START_MS + int(self._world.now)

    def monotonic(self) -> float:
        return self._world.now / 1000

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        raise AssertionError("nothing may wait in a simulation")
