"""The contract suite of executors, and one that runs nothing but does what a test tells it."""

import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from aiflow_core.bundle import pack
from aiflow_core.clock import Clock
from aiflow_core.deployment import Deployment
from aiflow_core.errors import UnavailableError, Veto
from aiflow_core.hooks import Hooks
from aiflow_core.hookspecs import hook
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest, BundleRef
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.executor import Claim, Executor, Load, Report, TellsLoad
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.waiting import wait_until

DEADLINE = 30.0
"""Seconds of real time after which a test gives up waiting for a process."""


class MemoryExecutor(Executor):
    """Attempts that run when they are submitted and end when a test says so.

    The claim is asked by the thread that submits; there is a thread of its own from the first
    renewal on, or when nobody knew the answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[AttemptKey, AttemptRequest] = {}
        self._asking: set[AttemptKey] = set()
        self._running: dict[AttemptKey, AttemptRequest] = {}
        self._ended: dict[AttemptKey, AttemptReport] = {}
        self._unsaid: deque[AttemptReport] = deque()
        self._until = math.inf
        self._term = 0
        self._watch: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_closed = False
        self.started: list[AttemptRequest] = []
        """Every attempt that was started, in order; each once."""

    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        blobs: BlobManager,
        report: Report,
        claim: Claim,
    ) -> None:
        self._clock = deployment.clock
        self._hooks = deployment.hooks
        self._report = report
        self._claim = claim
        stack.callback(self._close)

    def renew(self, until: float) -> None:
        with self._lock:
            self._look_at_time()
            self._until = until
        self._say()
        self._watch_time()
        self._wake.set()

    def submit(self, request: AttemptRequest) -> None:
        with self._lock:
            if request.key in self._waiting:
                return
            is_new = request.key not in self._running and request.key not in self._ended
            if is_new:
                self._waiting[request.key] = request
        if is_new:
            self._ask(request)
        else:
            self.adopt(request)

    def adopt(self, request: AttemptRequest) -> None:
        key = request.key
        with self._lock:
            if key in self._running:
                report = AttemptReport(key=key, status=TaskStatus.RUNNING)
            else:
                vanished = AttemptReport(
                    key=key, status=TaskStatus.FAILED, reason="vanished without a result"
                )
                report = self._ended.get(key, vanished)
        self._report(report)

    def stop(self, key: AttemptKey) -> None:
        self.end(key, TaskStatus.STOPPED)

    def stop_all(self) -> None:
        with self._lock:
            keys = [*self._waiting, *self._running]
        for key in keys:
            self.stop(key)

    def executions(self) -> set[int]:
        with self._lock:
            keys = (*self._waiting, *self._running, *self._ended)
        return {key.workflow_execution_id for key in keys}

    def forget(self, workflow_execution_id: int) -> None:
        def of(key: AttemptKey) -> bool:
            return key.workflow_execution_id == workflow_execution_id

        with self._lock:
            if not any(map(of, (*self._waiting, *self._running))):
                self._ended = {k: report for k, report in self._ended.items() if not of(k)}

    @property
    def running(self) -> list[AttemptKey]:
        """The attempts that have not ended, in the order in which they were started."""
        with self._lock:
            return list(self._running)

    def end(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """Let the attempt end; one that has ended keeps its first status, which is told again."""
        with self._lock:
            self._end(key, status, reason)
        self._say()

    def _ask(self, request: AttemptRequest) -> None:
        """Start what waits, if that is granted; leave it waiting when nobody knows."""
        key = request.key
        with self._lock:
            self._look_at_time()
            if key in self._asking or self._clock.monotonic() >= self._until:
                return
            self._asking.add(key)
            term = self._term
        is_granted: bool | None = None
        refusal: Veto | None = None
        try:
            is_granted = self._claim(key)
            if is_granted:
                self._hooks.before_task_start(request=request)
        except UnavailableError:
            self._watch_time()
        except Veto as veto:
            refusal = veto
        with self._lock:
            self._asking.discard(key)
            self._look_at_time()
            if is_granted is not None:
                was_waiting = self._waiting.pop(key, None) is not None
                if was_waiting and refusal:
                    self._end(key, TaskStatus.FAILED, str(refusal))
                elif was_waiting and is_granted:
                    self._begin(request, term)
        self._say()

    def _begin(self, request: AttemptRequest, term: int) -> None:
        if term != self._term:
            self._end(request.key, TaskStatus.FAILED, "lost its lease while it was claimed")
            return
        self._running[request.key] = request
        self.started.append(request)
        self._unsaid.append(AttemptReport(key=request.key, status=TaskStatus.RUNNING))

    def _end(self, key: AttemptKey, status: TaskStatus, reason: str) -> None:
        self._waiting.pop(key, None)
        self._running.pop(key, None)
        report = AttemptReport(key=key, status=status, reason=reason)
        self._unsaid.append(self._ended.setdefault(key, report))

    def _look_at_time(self) -> None:
        if self._clock.monotonic() >= self._until:
            self._term += 1
            for key in list(self._running):
                self._end(key, TaskStatus.FAILED, "lost its lease")

    def _say(self) -> None:
        """Not while the lock is held: whoever is told may ask something."""
        while self._unsaid:
            with contextlib.suppress(IndexError):  # another thread said it
                self._report(self._unsaid.popleft())

    def _watch_time(self) -> None:
        with self._lock:
            if self._watch is None and not self._is_closed:
                self._watch = threading.Thread(target=self._keep_time, name="memory-executor")
                self._watch.start()

    def _keep_time(self) -> None:
        while True:
            self._clock.wait(self._wake, 1.0)
            self._wake.clear()
            if self._is_closed:
                return
            with self._lock:
                self._look_at_time()
                waiting = list(self._waiting.values())
            self._say()
            for request in waiting:
                self._ask(request)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._wake.set()
        if self._watch is not None:
            self._watch.join()


FLOW = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from aiflow_core import Operator, Workflow
from aiflow_core.specs.operator import AttemptStopped

DESK = Path({desk!r})

def note(text):
    with open(DESK / "journal", "a") as journal:
        journal.write(text + "\\n")

def wait_for(name):
    until = time.monotonic() + 60
    while not (DESK / name).exists():
        assert time.monotonic() < until, name
        time.sleep(0.005)

class Call(Operator):
    def __init__(self, name, function, **config):
        super().__init__(name, **config)
        self.function = function
    def start(self, context):
        note(f"start {{context.key}} {{os.getpid()}}")
        self.function()
        note(f"end {{context.key}} {{os.getpid()}}")
    def stop(self, context):
        note(f"stop {{context.key}} {{os.getpid()}}")

def speak():
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    os.system("echo said by a child")
def fail():
    raise ValueError("no such luck")
def leave(code):
    sys.exit(code)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def abandon():
    os._exit(3)
def show_environment():
    note("task " + os.environ["AIFLOW_TASK"])
    note("uri " + os.environ["AIFLOW_NOTIFICATION_URI"])
    note("given " + os.environ.get("GIVEN", "nothing"))
def with_family(stubborn=False):
    ignore = "trap '' TERM; " if stubborn else ""
    script = ignore + "(" + ignore + "echo start child $BASHPID >> " + str(DESK / "journal") + "; "
    subprocess.run(["bash", "-c", script + "while true; do sleep 60; done)"])
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        with_family(stubborn=True)
def leave_children_behind():
    subprocess.Popen(["bash", "-c", "echo start child $BASHPID >> " + str(DESK / "journal")
        + "; while true; do sleep 60; done"])
    until = time.monotonic() + 60
    while "start child" not in (DESK / "journal").read_text():
        assert time.monotonic() < until
        time.sleep(0.005)
def swallow():
    try:
        wait_for("never")
    except Exception:
        note("swallowed")
def use_thread():
    threading.Thread(target=lambda: (wait_for("go"), note("thread is done"))).start()

with Workflow("contract") as workflow:
    Call("quick", lambda: None)
    Call("speak", speak)
    Call("fail", fail)
    Call("exit_0", lambda: leave(0))
    Call("exit_3", lambda: leave(3))
    Call("die", die)
    Call("abandon", abandon)
    Call("environment", show_environment)
    Call("waits", lambda: wait_for("go"))
    Call("family", with_family)
    Call("stubborn", stubborn)
    Call("leaves_children", leave_children_behind)
    Call("swallows", swallow)
    Call("thread", use_thread)
"""


class Stage:
    """An executor, the workflow that it runs tasks of, what it asked and everything it reported."""

    def __init__(self, make: Callable[[], Executor], home: Path) -> None:
        self._make = make
        self._held: defaultdict[AttemptKey, threading.Event] = defaultdict(granted_at_once)
        self._submitting: dict[AttemptKey, threading.Thread] = {}
        self._changed = threading.Condition()
        self._stack = ExitStack()
        self.home = home
        self.desk = home / "desk"
        self.desk.mkdir(parents=True)
        self.clock = ManualClock()
        self.blobs = MemoryBlobManager()
        self.reports: list[AttemptReport] = []
        self.asked: list[AttemptKey] = []
        """The attempts that were claimed, as often as they were."""
        self.others = itertools.count(1000)
        """Numbers of attempts that only fill the time."""
        self.answers: dict[AttemptKey, list[bool | UnavailableError]] = {}
        """What is said to those who claim, in turn; and then that it is granted."""
        self.guard = Guard()
        """An observer that is asked before an attempt starts."""
        self.hooks = Hooks(clock=Clock())
        self.bundle = self.make_bundle(FLOW.format(desk=str(self.desk)))
        self.executor = self._start()

    def make_bundle(self, flow: str, name: str = "flow.py") -> BundleRef:
        """Upload a workflow file."""
        source = self.home / "source"
        source.mkdir(exist_ok=True)
        (source / name).write_text(flow)
        archive, reference = pack(source / name, [], source)
        return msgspec.structs.replace(reference, uri=self.blobs.upload(archive))

    def request(
        self, name: str, number: int = 1, *, bundle: BundleRef | None = None, isolation: str = ""
    ) -> AttemptRequest:
        config = TaskConfig(isolation=isolation or "forked")
        return AttemptRequest(
            key=AttemptKey(workflow_execution_id=1, task_name=name, sequence_number=number),
            namespace="default",
            workflow_name="contract",
            task=TaskDefinition(name=name, config=config),
            bundle=bundle or self.bundle,
        )

    def submit(self, name: str, number: int = 1, *, isolation: str = "") -> AttemptRequest:
        request = self.request(name, number, isolation=isolation)
        self.executor.submit(request)
        return request

    def submit_held(self, name: str, number: int = 1) -> AttemptRequest:
        """Submit the task, and return when it is being claimed; `let_claim` lets that return."""
        request = self.request(name, number)
        self._held[request.key] = threading.Event()
        # An executor may claim before `submit` returns.
        submitting = threading.Thread(target=self.executor.submit, args=(request,), daemon=True)
        submitting.start()
        self._submitting[request.key] = submitting
        self.await_asked(request)
        return request

    def let_claim(self, request: AttemptRequest) -> None:
        self._held[request.key].set()
        self._submitting[request.key].join(DEADLINE)

    def let_claim_all(self) -> None:
        for held in list(self._held.values()):
            held.set()

    def await_asked(self, request: AttemptRequest, count: int = 1) -> None:
        wait_until(lambda: self.asked.count(request.key) >= count, f"{request.key} is claimed")

    def run(self, name: str, *, isolation: str = "") -> AttemptReport:
        """Submit the task and return its final report."""
        return self.final(self.submit(name, isolation=isolation))

    def final(self, request: AttemptRequest) -> AttemptReport:
        """The final report of the attempt, waited for."""

        def found() -> list[AttemptReport]:
            return [r for r in self.reports if r.key == request.key and r.status in TASK_FINISHED]

        with self._changed:
            assert self._changed.wait_for(found, DEADLINE), f"no end of {request.key}"
            return found()[-1]

    def await_report(self, request: AttemptRequest, status: TaskStatus) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(r.key == request.key and r.status is status for r in self.reports),
                DEADLINE,
            ), f"{request.key} is not reported {status}: {self.reports}"

    def statuses(self, request: AttemptRequest) -> list[TaskStatus]:
        with self._changed:
            return [r.status for r in self.reports if r.key == request.key]

    def let_go(self) -> None:
        """End the tasks that wait."""
        (self.desk / "go").touch()

    def journal(self, word: str = "") -> list[str]:
        """The lines that tasks wrote, those that begin with `word`."""
        path = self.desk / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(word)]

    def await_journal(self, word: str, count: int = 1) -> list[str]:
        wait_until(lambda: len(self.journal(word)) >= count, f"{count} lines {word!r}")
        return self.journal(word)

    def pids(self) -> list[int]:
        """The processes that tasks noted when they started."""
        return [int(line.split()[2]) for line in self.journal("start")]

    def renew(self, seconds: float) -> None:
        """Let attempts live for `seconds` from now."""
        self.executor.renew(self.clock.monotonic() + seconds)

    def watch(self) -> "Guard":
        """Let the guard be asked, and told, from now on; before a restart."""
        self.hooks.register(self.guard, "guard")
        return self.guard

    def leave(self) -> None:
        """Unwind the executor; what runs goes on."""
        self._stack.close()

    def restart(self) -> None:
        """Leave the executor and start another in its place, which knows of nothing."""
        self.leave()
        self._stack = ExitStack()
        self.asked.clear()
        with self._changed:
            self.reports.clear()
        self.executor = self._start()

    def _start(self) -> Executor:
        executor = self._make()
        executor.start(
            self._stack,
            Deployment(
                home=self.home / "aiflow",
                log_dir=self.home / "aiflow" / "logs",
                notification_uri="127.0.0.1:50052",
                clock=self.clock,
                hooks=self.hooks,
            ),
            self.blobs,
            self._take,
            self._claim,
        )
        return executor

    def _claim(self, key: AttemptKey) -> bool:
        self.asked.append(key)
        if not self._held[key].wait(DEADLINE):
            raise UnavailableError(f"The test does not let {key} be claimed.")
        answers = self.answers.get(key)
        answer = answers.pop(0) if answers else True
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    def _take(self, report: AttemptReport) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()


class Guard:
    """An observer of attempts.

    Attributes:
        answers: what it says when it is asked about an attempt: variables, or why not.
        asked: what it was asked about, in order.
        lines: what it was told of the logs.
        may_answer: while it is not set, the guard does not answer.
    """

    def __init__(self) -> None:
        self.may_answer = granted_at_once()
        self.answers: dict[AttemptKey, dict[str, str] | Veto] = {}
        self.asked: list[AttemptKey] = []
        self.lines: defaultdict[AttemptKey, list[str]] = defaultdict(list)

    @hook
    def before_task_start(self, request: AttemptRequest) -> dict[str, str]:
        self.asked.append(request.key)
        self.may_answer.wait(DEADLINE)
        answer = self.answers.get(request.key, {})
        if isinstance(answer, Veto):
            raise answer
        return answer

    @hook
    def task_log_line(self, key: AttemptKey, line: str) -> None:
        self.lines[key].append(line)


def granted_at_once() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


class Host:
    """Another process that holds an executor: told what to do, to be killed, and heard of."""

    def __init__(
        self,
        executor: str,
        home: Path,
        archive: Path,
        settings: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """`executor`: `module:class`; `archive`: the bundle that its blob manager holds."""
        self.reports: list[AttemptReport] = []
        arguments = [executor, json.dumps(settings or {}), str(home), str(archive)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOST, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def submit(self, request: AttemptRequest) -> None:
        self._tell("submit", request)

    def adopt(self, request: AttemptRequest) -> None:
        self._tell("adopt", request)

    def renew(self, seconds: float) -> None:
        # One clock for all processes of a machine.
        self._tell("renew", time.monotonic() + seconds)

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power switch does; returns when it is gone."""
        self._process.kill()
        with self._process:  # closes the pipes
            self._reader.join(DEADLINE)

    def _tell(self, method: str, argument: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{method} {encode(argument).decode()}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            assert self._process.wait(DEADLINE) != 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.reports.append(decode(line, AttemptReport))


_HOST = """
import json, sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from aiflow_core.deployment import Deployment
from aiflow_core.model.execution import AttemptRequest
from aiflow_core.model.serialization import decode, encode
from aiflow_core.testing.blob_manager import MemoryBlobManager

_, executor, settings, home, archive = sys.argv
module, _, cls = executor.partition(":")
executor = getattr(import_module(module), cls)(**json.loads(settings))
blobs, home = MemoryBlobManager(), Path(home)
blobs.upload(archive)
executor.start(
    ExitStack(),
    Deployment(home=home, log_dir=home / "logs", notification_uri="127.0.0.1:50052"),
    blobs,
    lambda report: print(encode(report).decode(), flush=True),
    lambda key: True,
)
for line in sys.stdin:
    method, _, argument = line.partition(" ")
    getattr(executor, method)(decode(argument, float if method == "renew" else AttemptRequest))
"""


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is not just waiting to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class SharingContract(ABC):
    """What every executor must do so that several servers can share the attempts: start none that
    is another's, and none for longer than it is said to be its own.

    Subclass it as `Test...`; what has processes subclasses `ExecutorContract` instead.
    """

    parallelism = 3

    @abstractmethod
    def make(self) -> Executor:
        """A new executor that runs `parallelism` attempts at once."""

    @abstractmethod
    def begun(self, stage: Stage) -> list[str]:
        """The keys of the attempts whose code has begun to run, as often as it has."""

    @abstractmethod
    def let_go(self, stage: Stage) -> None:
        """Let the attempts that run succeed."""

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[Stage]:
        with self.on_stage(tmp_path) as stage:
            yield stage

    @contextmanager
    def on_stage(self, home: Path) -> Iterator[Stage]:
        """A stage with that executor, which is stopped afterwards with all that it runs."""
        stage = Stage(self.make, home)
        try:
            yield stage
        finally:
            self._clear(stage)

    def _clear(self, stage: Stage) -> None:
        stage.let_claim_all()
        self.let_go(stage)
        stop = threading.Thread(target=stage.executor.stop_all, daemon=True)
        stop.start()

        def has_stopped() -> bool:
            stage.clock.advance(3600)  # nobody is given his grace
            return not stop.is_alive()

        wait_until(has_stopped, "stop_all returns")
        stage.leave()

    def begin(self, stage: Stage, number: int = 1) -> AttemptRequest:
        """An attempt that runs until `let_go`."""
        request = stage.submit("waits", number)
        stage.await_report(request, TaskStatus.RUNNING)
        wait_until(lambda: str(request.key) in self.begun(stage), f"{request.key} begins")
        return request

    def catch_up(self, stage: Stage) -> None:
        """Return when the executor has had every occasion to do what it is not to do: it has run
        another attempt from beginning to end."""
        other = stage.submit("waits", next(stage.others))
        stage.await_report(other, TaskStatus.RUNNING)
        stage.executor.stop(other.key)
        stage.final(other)

    # --- whose attempt it is ---

    def test_an_attempt_is_claimed_before_it_begins(self, stage: Stage) -> None:
        request = stage.submit_held("waits")
        self.catch_up(stage)
        assert str(request.key) not in self.begun(stage)
        assert not stage.statuses(request)

        stage.let_claim(request)

        stage.await_report(request, TaskStatus.RUNNING)
        assert stage.asked.count(request.key) == 1

    def test_an_attempt_of_another_server_is_dropped_without_a_word(self, stage: Stage) -> None:
        # As many as would keep every slot.
        requests = [stage.request("waits", number) for number in range(self.parallelism)]
        for request in requests:
            stage.answers[request.key] = [False]
            stage.executor.submit(request)
        self.catch_up(stage)

        assert [stage.statuses(request) for request in requests] == [[]] * self.parallelism
        assert not {str(request.key) for request in requests} & {*self.begun(stage)}

    def test_an_attempt_that_was_dropped_can_come_back(self, stage: Stage) -> None:
        request = stage.request("waits")
        stage.answers[request.key] = [False]
        stage.executor.submit(request)
        self.catch_up(stage)

        stage.executor.submit(request)

        stage.await_report(request, TaskStatus.RUNNING)
        assert stage.asked.count(request.key) == 2

    def test_a_claim_that_nobody_can_answer_is_repeated_after_a_pause(self, stage: Stage) -> None:
        request = stage.request("waits")
        stage.answers[request.key] = [UnavailableError("no database")] * 2
        stage.executor.submit(request)
        for count in (1, 2):
            stage.await_asked(request, count)
            self.catch_up(stage)
            assert stage.asked.count(request.key) == count
            assert not stage.statuses(request)

            stage.clock.await_waiters(timeout=DEADLINE)
            stage.clock.advance(60)

        stage.await_report(request, TaskStatus.RUNNING)
        assert stage.asked.count(request.key) == 3
        assert self.begun(stage).count(str(request.key)) <= 1

    def test_an_attempt_that_is_submitted_again_is_claimed_once(self, stage: Stage) -> None:
        request = stage.submit_held("waits")
        stage.executor.submit(request)
        stage.let_claim(request)
        stage.await_report(request, TaskStatus.RUNNING)
        stage.executor.submit(request)
        self.let_go(stage)
        stage.final(request)

        stage.reports.clear()
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert stage.asked == [request.key]

    def test_an_attempt_that_is_adopted_is_not_claimed(self, stage: Stage) -> None:
        request = stage.request("waits")

        stage.executor.adopt(request)

        assert stage.final(request).status is TaskStatus.FAILED
        assert stage.asked == []

    def test_an_attempt_that_is_stopped_while_it_is_claimed_never_begins(
        self, stage: Stage
    ) -> None:
        request = stage.submit_held("waits")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        stage.let_claim(request)
        self.catch_up(stage)
        assert stage.statuses(request) == [TaskStatus.STOPPED]
        assert str(request.key) not in self.begun(stage)

    def test_an_attempt_that_is_stopped_before_the_next_claim_never_begins(
        self, stage: Stage
    ) -> None:
        request, other = stage.request("waits", 1), stage.request("waits", 2)
        for each in (request, other):
            stage.answers[each.key] = [UnavailableError("no database")]
            stage.executor.submit(each)
            stage.await_asked(each)

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED

        def the_other_runs() -> bool:
            stage.clock.advance(60)  # again and again: it may begin to wait only now
            return TaskStatus.RUNNING in stage.statuses(other)

        wait_until(the_other_runs, "the other runs")
        self.catch_up(stage)
        assert stage.asked.count(request.key) == 1
        assert str(request.key) not in self.begun(stage)

    def test_an_executor_that_is_left_does_not_ask_again(self, stage: Stage) -> None:
        request = stage.request("waits")
        stage.answers[request.key] = [UnavailableError("no database")]
        stage.executor.submit(request)
        stage.await_asked(request)
        stage.clock.await_waiters(timeout=DEADLINE)

        stage.leave()

        stage.clock.advance(60)
        assert stage.asked == [request.key]
        assert not stage.statuses(request)
        stage.restart()
        stage.executor.submit(request)
        stage.await_report(request, TaskStatus.RUNNING)

    # --- who is asked ---

    def test_an_attempt_that_is_refused_never_starts_and_says_why(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        request = stage.request("waits")
        guard.answers[request.key] = Veto("not today")

        stage.executor.submit(request)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert report.reason == "Refused by 'guard': not today."
        assert str(request.key) not in self.begun(stage)
        assert stage.asked == guard.asked == [request.key]

    def test_a_refusal_holds_when_the_attempt_is_submitted_again(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        request = stage.request("waits")
        guard.answers[request.key] = Veto("not today")
        stage.executor.submit(request)
        refused = stage.final(request)
        guard.answers.clear()
        stage.reports.clear()

        stage.executor.submit(request)

        assert stage.final(request) == refused
        assert guard.asked == [request.key]

    def test_nobody_is_asked_about_an_attempt_of_another_server(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        request = stage.request("waits")
        stage.answers[request.key] = [False]
        stage.executor.submit(request)
        self.catch_up(stage)

        assert request.key not in guard.asked

    def test_nobody_is_asked_about_an_attempt_that_is_adopted(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        request = stage.request("waits")

        stage.executor.adopt(request)

        stage.final(request)
        assert guard.asked == []

    def test_an_attempt_that_is_stopped_while_observers_are_asked_never_begins(
        self, stage: Stage
    ) -> None:
        guard = self.guarded(stage)
        guard.may_answer.clear()
        request = stage.request("waits")
        # An executor may ask before `submit` returns.
        submitting = threading.Thread(target=stage.executor.submit, args=(request,), daemon=True)
        submitting.start()
        wait_until(lambda: request.key in guard.asked, f"{request.key} is asked about")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        guard.may_answer.set()
        submitting.join(DEADLINE)
        self.catch_up(stage)
        assert str(request.key) not in self.begun(stage)
        assert TaskStatus.RUNNING not in stage.statuses(request)

    def guarded(self, stage: Stage) -> Guard:
        """The stage's observer, which the executor knows from its start."""
        guard = stage.watch()
        stage.restart()
        return guard

    # --- for how long it is ---

    def test_without_a_lease_an_attempt_may_run_for_ever(self, stage: Stage) -> None:
        request = self.begin(stage)

        stage.clock.advance(1e6)

        self.catch_up(stage)
        assert stage.statuses(request) == [TaskStatus.RUNNING]

    def test_what_is_renewed_in_time_goes_on(self, stage: Stage) -> None:
        request = self.begin(stage)

        for _ in range(5):
            stage.renew(10)
            stage.clock.advance(9)
            self.catch_up(stage)

        assert stage.statuses(request) == [TaskStatus.RUNNING]
        self.let_go(stage)
        assert stage.final(request).status is TaskStatus.SUCCESS

    def test_what_is_not_renewed_is_ended_by_force(self, stage: Stage) -> None:
        stage.renew(10)
        request = self.begin(stage)
        stage.clock.advance(9)
        self.catch_up(stage)
        assert stage.statuses(request) == [TaskStatus.RUNNING]

        stage.clock.advance(2)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert "lost its lease" in report.reason
        assert not any(map(is_running, stage.pids()))

    def test_an_attempt_that_ran_before_the_first_lease_has_one_as_well(self, stage: Stage) -> None:
        request = self.begin(stage)

        stage.renew(10)
        stage.clock.advance(11)

        assert "lost its lease" in stage.final(request).reason

    def test_a_renewal_that_comes_too_late_saves_nothing_and_lets_others_begin(
        self, stage: Stage
    ) -> None:
        stage.renew(10)
        request = self.begin(stage, 1)

        stage.clock.advance(11)
        stage.renew(10)

        assert "lost its lease" in stage.final(request).reason
        self.begin(stage, 2)

    def test_nothing_begins_without_a_lease_that_there_was(self, stage: Stage) -> None:
        stage.renew(10)
        ended = self.begin(stage, 1)
        stage.clock.advance(11)
        stage.final(ended)

        request = stage.submit("waits", 2)
        for _ in range(100):  # as many occasions: no other attempt can begin either
            unknown = stage.request("waits", next(stage.others))
            stage.executor.stop(unknown.key)
            stage.final(unknown)

        assert request.key not in stage.asked
        assert not stage.statuses(request)
        stage.renew(10)
        stage.await_report(request, TaskStatus.RUNNING)

    def test_a_claim_that_is_granted_too_late_starts_nothing(self, stage: Stage) -> None:
        stage.renew(10)
        request = stage.submit_held("waits")
        stage.clock.advance(11)
        stage.renew(10)

        stage.let_claim(request)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert "lost its lease" in report.reason
        assert str(request.key) not in self.begun(stage)

    # --- what is left of attempts ---

    def test_what_is_kept_of_an_execution_goes_when_it_is_forgotten(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_report(request, TaskStatus.RUNNING)
        self.let_go(stage)
        stage.final(request)
        assert stage.executor.executions() == {1}

        def forgotten() -> bool:
            # Who looks after its processes may still be at it when its end is told.
            stage.executor.forget(1)
            return not stage.executor.executions()

        wait_until(forgotten, "it is forgotten")
        stage.reports.clear()
        stage.executor.adopt(request)
        assert "vanished" in stage.final(request).reason

    def test_nothing_is_forgotten_while_an_attempt_runs(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_report(request, TaskStatus.RUNNING)

        stage.executor.forget(1)

        assert stage.executor.executions() == {1}
        self.let_go(stage)
        assert stage.final(request).status is TaskStatus.SUCCESS

    def test_other_executions_are_not_forgotten(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_report(request, TaskStatus.RUNNING)
        self.let_go(stage)
        stage.final(request)

        stage.executor.forget(2)

        assert stage.executor.executions() == {1}
        stage.reports.clear()
        stage.executor.adopt(request)
        assert stage.final(request).status is TaskStatus.SUCCESS


class MemoryExecutorContract(SharingContract):
    """The same for the double, which has no processes, and for what is derived from it."""

    def make(self) -> Executor:
        return MemoryExecutor()

    def begun(self, stage: Stage) -> list[str]:
        assert isinstance(stage.executor, MemoryExecutor)
        return [str(request.key) for request in stage.executor.started]

    def let_go(self, stage: Stage) -> None:
        assert isinstance(stage.executor, MemoryExecutor)
        for key in stage.executor.running:
            stage.executor.end(key, TaskStatus.SUCCESS)


class ExecutorContract(SharingContract):
    """What every executor must do. Subclass it as `Test...` and make one in `make`."""

    def begun(self, stage: Stage) -> list[str]:
        return [line.split()[1] for line in stage.journal("start") if "child" not in line]

    def let_go(self, stage: Stage) -> None:
        stage.let_go()

    # --- how attempts end ---

    def test_a_task_that_returns_is_a_success(self, stage: Stage) -> None:
        request = stage.submit("quick")

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert stage.statuses(request) == [TaskStatus.RUNNING, TaskStatus.SUCCESS]
        assert len(stage.journal("start")) == len(stage.journal("end")) == 1

    def test_a_task_that_raises_fails_for_the_reason_it_gave(self, stage: Stage) -> None:
        report = stage.run("fail")

        assert report.status is TaskStatus.FAILED
        assert report.reason.startswith("ValueError: no such luck (flow.py:")

    def test_an_exit_code_of_0_is_a_success(self, stage: Stage) -> None:
        assert stage.run("exit_0").status is TaskStatus.SUCCESS

    def test_another_exit_code_is_a_failure(self, stage: Stage) -> None:
        report = stage.run("exit_3")

        assert (report.status, report.reason) == (TaskStatus.FAILED, "exit code 3")

    def test_a_task_that_is_killed_fails_and_says_so(self, stage: Stage) -> None:
        report = stage.run("die")

        assert report.status is TaskStatus.FAILED
        assert "signal 9" in report.reason

    def test_a_task_whose_process_leaves_without_a_word_fails(self, stage: Stage) -> None:
        report = stage.run("abandon")

        assert report.status is TaskStatus.FAILED
        assert "exit code 3" in report.reason

    def test_a_task_ends_when_its_last_thread_has(self, stage: Stage) -> None:
        request = stage.submit("thread")
        stage.await_journal("end")
        stage.await_report(request, TaskStatus.RUNNING)
        assert stage.statuses(request) == [TaskStatus.RUNNING]

        stage.let_go()

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert stage.journal("thread is done")

    def test_no_process_outlives_its_task(self, stage: Stage) -> None:
        assert stage.run("leaves_children").status is TaskStatus.SUCCESS

        assert len(stage.pids()) == 2
        assert not any(map(is_running, stage.pids()))

    @pytest.mark.parametrize(
        ("flow", "reason"),
        [
            ("import no_such_module", "flow.py:1: ModuleNotFoundError"),
            ("x = (1", "flow.py:1: SyntaxError"),
            ("import sys\nsys.exit(1)", "flow.py:2: the file calls sys.exit(1)"),
            ("x = 1", "No workflow objects found in flow.py"),
        ],
        ids=["import error", "syntax error", "exit", "no workflow"],
    )
    def test_a_file_that_cannot_be_loaded_fails_each_of_its_tasks(
        self, stage: Stage, flow: str, reason: str
    ) -> None:
        broken = stage.make_bundle(flow)
        requests = [stage.request("quick", number, bundle=broken) for number in range(3)]
        for request in requests:
            stage.executor.submit(request)

        for request in requests:
            report = stage.final(request)
            assert report.status is TaskStatus.FAILED
            assert reason in report.reason

    def test_a_file_without_the_task_fails_it(self, stage: Stage) -> None:
        request = stage.request("no_such_task")
        stage.executor.submit(request)

        assert "has no operator 'no_such_task'" in stage.final(request).reason

    def test_a_bundle_that_is_gone_fails_the_task(self, stage: Stage) -> None:
        stage.blobs.delete(stage.bundle.uri)

        report = stage.run("quick")

        assert report.status is TaskStatus.FAILED
        assert "No such blob" in report.reason

    # --- what a task finds ---

    def test_output_and_traceback_go_to_the_log_of_the_attempt(self, stage: Stage) -> None:
        stage.run("speak")
        stage.run("fail")

        logs = stage.home / "aiflow" / "logs" / "contract" / "1"
        said = (logs / "speak" / "1.log").read_text()
        for line in ("said on stdout", "said on stderr", "said by a child"):
            assert line in said
        failure = (logs / "fail" / "1.log").read_text()
        assert "Traceback" in failure
        assert "no such luck" in failure

    def test_a_task_finds_who_it_is_in_its_environment(self, stage: Stage) -> None:
        assert stage.run("environment").status is TaskStatus.SUCCESS

        assert '"task_name":"environment"' in stage.journal("task ")[0]
        assert stage.journal("uri ") == ["uri 127.0.0.1:50052"]
        assert "AIFLOW_TASK" not in os.environ

    @pytest.mark.parametrize("isolation", ["forked", "fresh"])
    def test_a_task_finds_what_observers_gave_it_in_its_environment(
        self, stage: Stage, isolation: str
    ) -> None:
        guard = self.guarded(stage)
        request = stage.request("environment", isolation=isolation)
        guard.answers[request.key] = {"GIVEN": "by the guard", "AIFLOW_TASK": "forged"}

        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert stage.journal("given") == ["given by the guard"]
        assert '"task_name":"environment"' in stage.journal("task ")[0]

    def test_a_refusal_holds_after_a_restart(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        request = stage.request("waits")
        guard.answers[request.key] = Veto("not today")
        stage.executor.submit(request)
        refused = stage.final(request)
        guard.answers.clear()
        stage.restart()

        stage.executor.submit(request)

        assert stage.final(request) == refused
        assert guard.asked == [request.key]

    def test_a_task_can_have_an_interpreter_of_its_own(self, stage: Stage) -> None:
        assert stage.run("quick", isolation="fresh").status is TaskStatus.SUCCESS

    def test_the_files_of_an_execution_are_its_own(self, stage: Stage) -> None:
        stage.run("quick")

        assert (stage.home / "aiflow/working_dir/contract/1/flow/flow.py").is_file()

    # --- how often, how many ---

    def test_an_attempt_that_is_submitted_again_runs_once(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.executor.submit(request)
        stage.await_journal("start")
        stage.executor.submit(request)
        stage.let_go()
        assert stage.final(request).status is TaskStatus.SUCCESS

        stage.reports.clear()
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert len(stage.journal("start")) == 1

    def test_each_try_is_an_attempt_of_its_own(self, stage: Stage) -> None:
        first = stage.request("quick")
        second = msgspec.structs.replace(
            first, key=msgspec.structs.replace(first.key, try_number=2)
        )
        for request in (first, second):
            stage.executor.submit(request)
            stage.final(request)

        started = [line.split()[1] for line in stage.journal("start")]
        assert started == ["1_quick_1.1", "1_quick_1.2"]
        assert (stage.home / "aiflow/logs/contract/1/quick/1.2.log").is_file()

    def test_no_more_run_at_once_than_allowed_and_the_rest_follows_in_order(
        self, stage: Stage
    ) -> None:
        requests = [stage.submit("waits", number) for number in range(6)]
        stage.await_journal("start", self.parallelism)
        assert [stage.statuses(r) for r in requests[self.parallelism :]] == [[]] * 3

        stage.let_go()

        assert {stage.final(r).status for r in requests} == {TaskStatus.SUCCESS}
        running = most = 0
        for line in stage.journal():
            running += 1 if line.startswith("start") else -1
            most = max(most, running)
        assert most == self.parallelism
        waited = [int(line.split()[1].split("_")[2][0]) for line in stage.journal("start")]
        assert sorted(waited[: self.parallelism]) == [0, 1, 2]

    def test_one_that_tells_its_load_tells_what_runs_and_what_waits(self, stage: Stage) -> None:
        if not isinstance(stage.executor, TellsLoad):
            return  # it lets all run, or does not tell
        tell = stage.executor.load
        assert tell() == Load(0, 0, self.parallelism)
        requests = [stage.submit("waits", number) for number in range(self.parallelism + 2)]

        wait_until(lambda: tell() == Load(self.parallelism, 2, self.parallelism), "it is full")

        stage.let_go()
        for request in requests:
            stage.final(request)
        wait_until(lambda: tell() == Load(0, 0, self.parallelism), "it is idle")

    def test_many_quick_attempts_run_once_each(self, stage: Stage) -> None:
        requests = [stage.submit("quick", number) for number in range(50)]

        assert {stage.final(r).status for r in requests} == {TaskStatus.SUCCESS}
        assert sorted(line.split()[1] for line in stage.journal("start")) == sorted(
            str(r.key) for r in requests
        )

    # --- stopping ---

    def test_a_running_task_is_asked_to_stop_and_may_tidy_up(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_journal("start")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert len(stage.journal("stop")) == 1
        assert not stage.journal("end")

    def test_what_a_task_started_is_stopped_with_it(self, stage: Stage) -> None:
        request = stage.submit("family")
        stage.await_journal("start child")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not any(map(is_running, stage.pids()))

    def test_a_task_that_does_not_listen_is_killed_after_the_grace(self, stage: Stage) -> None:
        request = stage.submit("stubborn")
        stage.await_journal("start child")
        stage.executor.stop(request.key)
        stage.clock.await_waiters()
        assert all(map(is_running, stage.pids()))

        stage.clock.advance(3600)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not any(map(is_running, stage.pids()))

    def test_a_task_cannot_mistake_the_stop_for_an_error_of_its_own(self, stage: Stage) -> None:
        request = stage.submit("swallows")
        stage.await_journal("start")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not stage.journal("swallowed")

    def test_a_waiting_task_is_stopped_at_once_and_never_runs(self, stage: Stage) -> None:
        running = [stage.submit("waits", number) for number in range(self.parallelism)]
        stage.await_journal("start", self.parallelism)
        waiting = stage.submit("quick")

        stage.executor.stop(waiting.key)

        assert stage.final(waiting).status is TaskStatus.STOPPED
        stage.let_go()
        assert {stage.final(r).status for r in running} == {TaskStatus.SUCCESS}
        assert not [line for line in stage.journal("start") if "quick" in line]

    def test_an_unknown_attempt_is_stopped_already(self, stage: Stage) -> None:
        request = stage.request("quick")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED

    def test_a_finished_attempt_keeps_its_status_when_it_is_stopped(self, stage: Stage) -> None:
        request = stage.submit("quick")
        stage.final(request)
        stage.reports.clear()

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.SUCCESS

    def test_stopping_everything_returns_when_everything_is_gone(self, stage: Stage) -> None:
        requests = [stage.submit("family", number) for number in range(self.parallelism + 2)]
        stage.await_journal("start child", self.parallelism)

        stage.executor.stop_all()

        assert not any(map(is_running, stage.pids()))
        assert {stage.statuses(r)[-1] for r in requests} == {TaskStatus.STOPPED}

    # --- after a restart ---

    @pytest.mark.parametrize("again", ["adopt", "submit"])
    def test_a_task_that_still_runs_is_taken_over(self, stage: Stage, again: str) -> None:
        request = stage.submit("waits")
        stage.await_journal("start")
        stage.restart()

        getattr(stage.executor, again)(request)
        stage.await_report(request, TaskStatus.RUNNING)
        stage.let_go()

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert len(stage.journal("start")) == 1
        assert stage.asked == []

    @pytest.mark.parametrize("again", ["adopt", "submit"])
    def test_a_task_that_ended_meanwhile_is_reported(self, stage: Stage, again: str) -> None:
        request = stage.submit("waits")
        stage.await_journal("start")
        stage.leave()
        stage.let_go()
        stage.await_journal("end")
        stage.restart()

        getattr(stage.executor, again)(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert len(stage.journal("start")) == 1

    def test_a_task_that_was_killed_meanwhile_is_reported(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_journal("start")
        stage.restart()
        os.kill(stage.pids()[0], 9)

        stage.executor.adopt(request)

        assert stage.final(request).status is TaskStatus.FAILED
        assert len(stage.journal("start")) == 1

    def test_a_task_of_which_nothing_is_left_has_failed(self, stage: Stage) -> None:
        request = stage.request("quick")

        stage.executor.adopt(request)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert "vanished without a result" in report.reason
        assert not stage.journal("start")

    def test_a_task_that_was_taken_over_can_be_stopped(self, stage: Stage) -> None:
        request = stage.submit("family")
        stage.await_journal("start child")
        stage.restart()
        stage.executor.adopt(request)
        stage.await_report(request, TaskStatus.RUNNING)

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not any(map(is_running, stage.pids()))

    def test_a_running_task_can_be_stopped_before_it_is_taken_over(self, stage: Stage) -> None:
        request = stage.submit("family")
        stage.await_journal("start child")
        stage.restart()

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not any(map(is_running, stage.pids()))
