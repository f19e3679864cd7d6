"""A zygote: a small process that has imported what its tasks need and forks a child for each.

Run as `python -m aiflow_executor_local.zygote`, with the number of its socket and the settings that
`main` reads. It detaches itself from the executor at once, so that ending the executor's process
tree ends no task. It has one thread, because it forks, and it keeps some children ready, because
forking takes longer than sending a message.
"""

import contextlib
import gc
import logging
import math
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from aiflow_core.bundle import forget, load_bundle
from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.errors import UsageError
from aiflow_core.model.execution import AttemptReport
from aiflow_core.model.serialization import decode
from aiflow_core.model.status import TaskStatus
from aiflow_executor_local import groups, runner
from aiflow_executor_local.lease import LOST, Deadline
from aiflow_executor_local.messages import (
    DONE,
    RUNNING,
    TAKEN,
    Job,
    Notice,
    Order,
    Ready,
    Renewal,
    Warmup,
    line,
)
from aiflow_executor_local.run_directory import RunDirectory

_PATIENCE = 0.5
_MARGIN = 1.0
_REFILL_AFTER = 0.01
# Seconds between two looks at who took over the children of an executor that is gone.
_LOOK = 1.0

log = logging.getLogger(__name__)


def main() -> None:
    _detach()
    logging.basicConfig(format="[%(asctime)s - %(process)d - %(levelname)s: %(message)s]")
    _, executor, home, idle, orphans, grace, start_timeout = sys.argv
    zygote = Zygote(
        socket.socket(fileno=int(executor)),
        Path(home),
        idle_children=int(idle),
        stop_orphans=orphans == "stop",
        stop_grace=float(grace),
    )
    if zygote.warm_up(float(start_timeout)):
        zygote.serve()


class Child:
    """A process that waits for a job, or runs one."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.run: RunDirectory | None = None
        self.lock: int | None = None
        self.taken = False
        self.reported = False
        self.death = ""

    @property
    def is_heard(self) -> bool:
        """Whether there may be something to read from it."""
        return self.channel.fileno() >= 0

    def close(self) -> None:
        self.channel.close()
        if self.lock is not None:
            os.close(self.lock)


class Zygote:
    """The loop: jobs come in, children are forked and waited for, reports go out."""

    def __init__(
        self,
        executor: socket.socket,
        home: Path,
        *,
        idle_children: int,
        stop_orphans: bool,
        stop_grace: float,
    ) -> None:
        self._executor = executor
        self._home = home
        self._idle_children = idle_children
        self._stop_orphans = stop_orphans
        self._stop_grace = stop_grace
        self._clock = Clock()
        self._connected = True
        self._kill_at = math.inf
        self._refill_at = 0.0
        self._deadline = Deadline.create()
        self._look_at = math.inf
        self._received = b""
        self._unsent = b""
        self._idle: deque[Child] = deque()
        self._busy: dict[int, Child] = {}
        self._dying: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._wakeup, wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup_writer = wakeup

    def warm_up(self, timeout: float) -> bool:
        """Import what the executor names, and say how it went."""
        first = self._read_line()
        if first is None:
            return False
        warmup = decode(first, Warmup)
        # The executor has given up by then, and nobody else would end an import that hangs.
        signal.setitimer(signal.ITIMER_REAL, timeout + _MARGIN)
        problem = ""
        try:
            if warmup.operator:
                runner.operator_class(warmup.operator)
            elif warmup.entry:
                os.chdir(warmup.snapshot)
                load_bundle(warmup.snapshot, warmup.entry)
                # Each attempt loads the author's files again, from the execution's own copy. What
                # they imported from elsewhere stays: that is what makes a zygote worth having.
                forget(warmup.snapshot)
        except Exception as error:
            log.exception("The warm-up failed")
            problem = runner.describe(error)
        with contextlib.suppress(UsageError):
            # The decoder learns the type, which each child would do anew.
            decode(b"{}", Job)
        signal.setitimer(signal.ITIMER_REAL, 0)
        # What was imported stays for good: do not let the collector touch, and so copy, its pages.
        gc.collect()
        gc.freeze()
        self._send(line(Ready(problem)))
        return not problem

    def serve(self) -> None:
        """Until the executor is gone and the last child has ended."""
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._executor, selectors.EVENT_READ, self._attend_executor)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)
        self._follow(b"")
        while self._connected or self._busy or self._dying:
            ready = self._selector.select(self._timeout())
            for key, _ in ready:
                key.data()
            now = self._clock.monotonic()
            if now >= self._look_at:
                # After a pause, the wait is over before it is seen what was said meanwhile.
                self._attend_executor()
                self._end_what_is_over(now)
            if now >= self._kill_at:
                self._kill_at = math.inf
                self._kill_all()
            if not ready and self._lacks_children and now >= self._refill_at:
                self._idle.append(self._fork())
            elif not ready:
                # Nobody died for a while: perhaps what is left is dead, but not ours to reap.
                self._bury(groups.kill)

    # --- the executor ---

    def _read_line(self) -> bytes | None:
        while b"\n" not in self._received:
            received = self._executor.recv(65536)
            if not received:
                return None
            self._received += received
        first, _, self._received = self._received.partition(b"\n")
        return first

    def _attend_executor(self) -> None:
        if self._unsent:
            self._send(b"")
        # All that it has said: after a pause, what it said last is what counts.
        while self._connected:
            try:
                received = self._executor.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionResetError:
                received = b""
            if received:
                self._follow(received)
            else:
                self._disconnect()

    def _follow(self, received: bytes) -> None:
        *lines, self._received = (self._received + received).split(b"\n")
        for text in lines:
            order: Order = decode(text, Order)  # type: ignore[arg-type]
            if isinstance(order, Job):
                self._start(order, text)
            else:
                self._renew(order)

    def _send(self, message: bytes) -> None:
        """Never waits: an executor that is stopped must not keep its zygote from anything."""
        if not self._connected:
            return
        was_behind, self._unsent = bool(self._unsent), self._unsent + message
        try:
            while self._unsent:
                sent = self._executor.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._disconnect()
            return
        if was_behind != bool(self._unsent):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            self._selector.modify(self._executor, events, self._attend_executor)

    def _disconnect(self) -> None:
        """Without an executor no new job can come. What runs goes on, or is told to stop."""
        if not self._connected:
            return
        self._connected = False
        self._look_at = 0.0
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._executor)
        self._executor.close()
        while self._idle:
            self._idle.pop().close()
        if self._stop_orphans:
            self._kill_at = self._clock.monotonic() + self._stop_grace
            for child in self._busy.values():
                assert child.run is not None
                child.run.request_stop()
                groups.send(child.pid, signal.SIGTERM)

    # --- children ---

    def _start(self, job: Job, text: bytes) -> None:
        run = RunDirectory(job.home, job.request.key)
        if job.request.task.config.isolation == "fresh":
            child = self._spawn()
        else:
            child = self._idle.popleft() if self._idle else self._fork()
        with contextlib.suppress(OSError):  # it died just now, which its end will tell
            crash_point("zygote.hand_over.before")
            child.channel.sendall(text + b"\n")
            crash_point("zygote.hand_over.after")
        child.run = run
        # Forking takes longer than a short task: leave the time to the task, and to its end.
        self._refill_at = self._clock.monotonic() + _REFILL_AFTER
        self._look_at = min(self._look_at, self._deadline.get())
        self._busy[child.pid] = child
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._listen(child))

    def _fork(self) -> Child:
        ours, theirs = socket.socketpair()
        crash_point("zygote.fork.before")
        pid = os.fork()
        if pid == 0:
            self._become_child(theirs, ours)
        crash_point("zygote.fork.after")
        theirs.close()
        return Child(pid, ours)

    def _become_child(self, channel: socket.socket, zygotes_end: socket.socket) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            # Whoever holds an end of a connection keeps the other from seeing that it was closed.
            self._selector.close()
            for inherited in (self._executor, self._wakeup, self._wakeup_writer, zygotes_end):
                inherited.close()
            for sibling in (*self._idle, *self._busy.values(), *self._dying):
                sibling.close()
            runner.serve(channel, self._deadline, self._home)
        except BaseException:
            log.exception("A child failed outside of its task")
        finally:
            os._exit(70)

    def _spawn(self) -> Child:
        ours, theirs = socket.socketpair()
        inherited = theirs.detach(), os.dup(self._deadline.descriptor)
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        arguments = map(str, (*inherited, self._home))
        command = [sys.executable, "-P", "-m", runner.__name__, *arguments]
        crash_point("zygote.spawn.before")
        pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
        crash_point("zygote.spawn.after")
        for descriptor in inherited:
            os.close(descriptor)
        return Child(pid, ours)

    def _listen(self, child: Child) -> None:
        if not child.is_heard:
            return  # its end was handled in the same round
        try:
            said = child.channel.recv(64, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            said = b""
        if not said:
            self._selector.unregister(child.channel)
            child.channel.close()
        for message in said.splitlines(keepends=True):
            self._note(child, message)

    def _note(self, child: Child, message: bytes) -> None:
        assert child.run is not None
        if message == TAKEN:
            child.taken = True
        elif message == RUNNING:
            crash_point("zygote.keep.before")
            child.lock = child.run.keep()
            crash_point("zygote.keep.after")
            self._report(child, AttemptReport(key=child.run.key, status=TaskStatus.RUNNING))
        elif message == DONE:
            child.reported = True
            self._report(child, AttemptReport(key=child.run.key, status=TaskStatus.SUCCESS))
            self._refill_at = 0.0  # whoever waits for this report is busy with it now

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self._ended(pid, os.waitstatus_to_exitcode(status))
        self._bury(lambda group: groups.send(group, signal.SIGKILL))

    def _bury(self, is_left: Callable[[int], bool]) -> None:
        """Conclude the attempts of which no process is left; end what is."""
        for child in [c for c in self._dying if not is_left(c.pid)]:
            self._dying.remove(child)
            self._conclude(child)

    def _ended(self, pid: int, code: int) -> None:
        child = self._busy.pop(pid, None)
        if child is None:
            # An idle child, or what a task left behind: as its subreaper this process inherits it.
            for idle in [c for c in self._idle if c.pid == pid]:
                self._idle.remove(idle)
                idle.close()
            return
        while child.is_heard:
            self._listen(child)  # what it said last
        if not child.death:
            # An executor that took the attempt over may have been the first to end it.
            is_lost = code == -signal.SIGKILL and self._clock.monotonic() >= self._until(child)
            child.death = LOST if is_lost else _death(code)
        self._dying.append(child)

    def _conclude(self, child: Child) -> None:
        assert child.run is not None
        crash_point("zygote.conclude.before")
        report = AttemptReport(key=child.run.key, status=TaskStatus.FAILED, reason=child.death)
        if child.run.exists() or not child.run.settle(report):
            report = child.run.conclude(child.death)
        crash_point("zygote.conclude.after")
        child.close()
        if not child.reported:
            self._report(child, report)

    def _report(self, child: Child, report: AttemptReport) -> None:
        crash_point("zygote.report.before")
        self._send(line(Notice(report, child.taken)))
        crash_point("zygote.report.after")

    # --- time ---

    @property
    def _lacks_children(self) -> bool:
        return self._connected and len(self._idle) < self._idle_children

    def _timeout(self) -> float | None:
        due = min(self._look_at, self._kill_at)
        if self._lacks_children:
            due = min(due, self._refill_at)
        left = max(0.0, due - self._clock.monotonic())
        if self._dying:
            return min(left, _PATIENCE)
        return None if left == math.inf else left

    def _renew(self, renewal: Renewal) -> None:
        if renewal.at >= self._deadline.get():
            self._end_what_is_over(renewal.at)
        self._deadline.set(renewal.until)
        self._look_at = renewal.until

    def _end_what_is_over(self, now: float) -> None:
        """Kill the children whose time has passed, and see when it passes for the next."""
        left = [self._until(child) for child in self._busy.values()]
        for child, until in zip(self._busy.values(), left, strict=True):
            if now >= until:
                child.death = LOST
                _kill(child)
        self._look_at = min((until for until in left if until > now), default=math.inf)
        if not self._connected:
            self._look_at = min(self._look_at, now + _LOOK)

    def _until(self, child: Child) -> float:
        """The end of its lease: another executor that has taken it over knows better."""
        assert child.run is not None
        lent = child.run.lease()
        return self._deadline.get() if lent is None else lent

    def _kill_all(self) -> None:
        for child in self._busy.values():
            _kill(child)


def _kill(child: Child) -> None:
    # A child that was forked a moment ago has not made its group yet.
    if not groups.send(child.pid, signal.SIGKILL):
        os.kill(child.pid, signal.SIGKILL)


def _death(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "real-time"
        return f"killed by signal {-code} ({name})"
    return f"the process ended with exit code {code} before the task was done"


def _detach() -> None:
    """Leave the executor's process tree, and take in what tasks leave behind."""
    crash_point("zygote.detach.before")
    if os.fork() > 0:
        os._exit(0)
    crash_point("zygote.detach.after")
    os.setsid()
    groups.inherit_orphans()


if __name__ == "__main__":
    main()
