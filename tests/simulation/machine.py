"""The machines on which attempts run, and the executors that start them there."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from aiflow_core.crash import crash_point
from aiflow_core.deployment import Deployment
from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.executor import Claim, Executor, Report

from .world import World

LONGEST_TASK = 1500.0


@dataclass
class Process:
    """An attempt's process, or what it left behind. Times in milliseconds.

    Attributes:
        vanished: it went with the power of its machine, and so did every trace of it there.
    """

    key: AttemptKey
    machine: str
    began: float
    ended: float | None = None
    report: AttemptReport | None = None
    vanished: bool = False


class Machine:
    """Holds processes, which outlive the server that started them, but not the power.

    Attributes:
        deadline: when everything is ended that runs here; None: never.
        boots: how often it was switched on.
    """

    def __init__(self, world: World, name: str, journal: list[Process]) -> None:
        self.world = world
        self.name = name
        self.deadline: float | None = None
        self.boots = 1
        self.processes: dict[AttemptKey, Process] = {}
        self._journal = journal
        self._watchers: dict[str, Callable[[AttemptReport], None]] = {}

    def begin(self, request: AttemptRequest) -> None:
        """Start the process of an attempt; of two who try, the second finds it there."""
        process = Process(request.key, self.name, self.world.now)
        self.processes[request.key] = process
        self._journal.append(process)
        self.world.note(self.name, "begins", request.key)
        chance = self.world.chance
        failed = chance.random() < 0.15
        status = TaskStatus.FAILED if failed else TaskStatus.SUCCESS
        reason = "it was to fail" if failed else ""
        self.world.after(chance.uniform(1, LONGEST_TASK), lambda: self.end(process, status, reason))

    def end(self, process: Process, status: TaskStatus, reason: str = "") -> None:
        """Let a process end, unless it has; those who watch are told."""
        if process.ended is not None or self.processes.get(process.key) is not process:
            return
        process.ended = self.world.now
        process.report = AttemptReport(key=process.key, status=status, reason=reason)
        self.world.note(self.name, "ends", process.key, status)
        for watcher in list(self._watchers.values()):
            watcher(process.report)

    def renew(self, deadline: float) -> None:
        """Let what runs here live until then, in milliseconds."""
        self.deadline = deadline
        # A moment later: sums of fractions may fall short of it.
        self.world.after(max(0.0, deadline - self.world.now) + 0.01, self._enforce)

    def _enforce(self) -> None:
        if self.deadline is not None and self.world.now >= self.deadline:
            for process in list(self.processes.values()):
                self.end(process, TaskStatus.FAILED, "lost its lease")

    def lose_power(self) -> None:
        """Everything ends, and what was not yet told is lost."""
        for process in self.processes.values():
            process.vanished = True
            if process.ended is None:
                process.ended = self.world.now
        self.processes.clear()
        self.boots += 1
        self.world.note(self.name, "loses power")

    def watch(self, who: str, watcher: Callable[[AttemptReport], None]) -> None:
        """Tell `who` of every process that ends, in place of what he was told before."""
        self._watchers[who] = watcher


class SimulatedExecutor(Executor):
    """As a local executor does it: asks, starts, watches, reports; knows only its own machine.

    Args:
        later: does something in so many milliseconds, as long as the server lives.
    """

    def __init__(
        self, machine: Machine, later: Callable[[float, Callable[[], None]], None], shared: bool
    ) -> None:
        self._machine = machine
        self._later = later
        self._known: set[AttemptKey] = set()
        self._stopped: set[AttemptKey] = set()
        self._deadline: float | None = None
        self._term = 0
        if shared:
            self.is_shared = True  # type: ignore[misc]

    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        blobs: BlobManager,
        report: Report,
        claim: Claim,
    ) -> None:
        self._report = report
        self._claim = claim
        self._machine.watch(deployment.home.name, self._ended)

    def renew(self, until: float) -> None:
        if self._is_late():
            self._term += 1
        self._deadline = 1000 * until
        if not self.is_shared:
            self._machine.renew(self._deadline)

    def submit(self, request: AttemptRequest) -> None:
        key = request.key
        if key in self._machine.processes:
            self.adopt(request)
        elif key not in self._known:
            self._known.add(key)
            self._stopped.discard(key)  # that was before
            self._later(50, lambda: self._start(request))

    def adopt(self, request: AttemptRequest) -> None:
        process = self._machine.processes.get(request.key)
        if process is None:
            vanished = "vanished without a result"
            self._tell(AttemptReport(key=request.key, status=TaskStatus.FAILED, reason=vanished))
        else:
            running = AttemptReport(key=request.key, status=TaskStatus.RUNNING)
            self._tell(process.report or running)

    def stop(self, key: AttemptKey) -> None:
        self._stopped.add(key)
        process = self._machine.processes.get(key)
        if process is None:
            self._tell(AttemptReport(key=key, status=TaskStatus.STOPPED))
        elif process.report is not None:
            self._tell(process.report)
        else:
            self._later(100, lambda: self._machine.end(process, TaskStatus.STOPPED))

    def stop_all(self) -> None:
        for key in sorted(self._known - self._machine.processes.keys()):
            self._stopped.add(key)
            self._report(AttemptReport(key=key, status=TaskStatus.STOPPED))
        self._known.clear()
        for process in list(self._machine.processes.values()):
            self._machine.end(process, TaskStatus.STOPPED)
            if process.report is not None:
                self._report(process.report)  # a repetition of what the watcher tells

    def _start(self, request: AttemptRequest) -> None:
        key = request.key
        if key in self._stopped:
            return
        try:
            granted = self._claim(key)
        except UnavailableError:
            self._later(300, lambda: self._start(request))
            return
        if not granted:
            self._known.discard(key)
            return
        # Between asking and starting this process may have stood still.
        term = self._term
        self._later(5, lambda: self._spawn(request, term))

    def _is_late(self) -> bool:
        return self._deadline is not None and self._machine.world.now >= self._deadline

    def _spawn(self, request: AttemptRequest, term: int) -> None:
        key = request.key
        if key in self._stopped:
            return
        if term != self._term or self._is_late():
            # Others may have given the attempt up since it was claimed.
            self._later(300, lambda: self._start(request))
            return
        crash_point("executor.spawn.before")
        if key not in self._machine.processes:
            self._machine.begin(request)
        crash_point("executor.spawn.after")
        self.adopt(request)

    def _ended(self, report: AttemptReport) -> None:
        self._tell(report)

    def _tell(self, report: AttemptReport) -> None:
        self._later(20, lambda: self._report(report))
