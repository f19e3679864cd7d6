"""The executor: what its caller asks, carried out by one coroutine per attempt.

The caller's threads hand over to an event loop in a thread of its own, which alone touches the
state; reports are made from that thread.
"""

import asyncio
import functools
import logging
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from aiflow_core.bundle import fetch, snapshot_directory
from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.deployment import Deployment, log_file
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest, BundleRef
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.executor import Claim, Executor, Load, Report, TellsLoad, alone
from aiflow_executor_local import groups
from aiflow_executor_local.lease import LOST
from aiflow_executor_local.log_lines import LogLines
from aiflow_executor_local.messages import Job, Renewal, Warmup, needs_bundle
from aiflow_executor_local.run_directory import RunDirectory, drafts, is_held
from aiflow_executor_local.slots import Slots
from aiflow_executor_local.zygotes import Zygote, Zygotes

VANISHED = "vanished without a result (was the machine restarted?)"
_DAY_MS = 24 * 3600 * 1000
_LOOK = 0.005

# So many zygotes may die over one attempt before it has failed: perhaps it is what kills them.
_ZYGOTES = 3
# Seconds until a claim is asked for again that nobody could answer.
_ASK_AGAIN = 1.0

log = logging.getLogger(__name__)


class LocalExecutor(Executor, TellsLoad):
    """Runs each attempt as a process of this machine, forked from one that is warm.

    Args:
        parallelism: how many attempts may run at once.
        python: the interpreter of the tasks.
        stop_grace: seconds between asking an attempt to stop and killing it.
        orphans: what becomes of running attempts when the executor is gone: `keep` lets them run,
            to be adopted; `stop` stops them.
        idle_children: how many processes each zygote keeps ready.
        warm_zygotes: how many zygotes are kept; there is one per bundle and per operator.
        start_timeout: seconds that importing a workflow file may take; longer is a failure.
        keep_results: days after which the run directories of finished attempts are removed.
    """

    def __init__(
        self,
        parallelism: int = 10,
        python: str = sys.executable,
        stop_grace: float = 10.0,
        orphans: str = "keep",
        idle_children: int = 2,
        warm_zygotes: int = 8,
        start_timeout: float = 300.0,
        keep_results: float = 7.0,
    ) -> None:
        if parallelism < 1 or idle_children < 0 or warm_zygotes < 1:
            raise ConfigError(
                "The local executor's parallelism and warm_zygotes are at least 1, idle_children "
                "at least 0."
            )
        if stop_grace < 0 or keep_results < 0 or start_timeout <= 0:
            raise ConfigError(
                "The local executor's stop_grace and keep_results are at least 0, start_timeout "
                "is more than 0."
            )
        if orphans not in ("keep", "stop"):
            raise ConfigError(f"The local executor's orphans is 'keep' or 'stop', not {orphans!r}.")
        self._parallelism = parallelism
        self._python = python
        self._stop_grace = stop_grace
        self._orphans = orphans
        self._idle_children = idle_children
        self._warm_zygotes = warm_zygotes
        self._start_timeout = start_timeout
        self._keep_results = keep_results
        self._attempts: dict[AttemptKey, _Attempt] = {}
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._term = 0
        self._leased_until = math.inf
        self._renewal: Renewal | None = None
        self._lease_changed = threading.Event()

    # --- called from any thread ---

    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        blobs: BlobManager,
        report: Report,
        claim: Claim,
    ) -> None:
        self._deployment = deployment
        self._clock = deployment.clock
        self._hooks = deployment.hooks
        self._home = deployment.home.absolute()
        self._blobs = blobs
        self._take_report = report
        self._claim = claim
        self._lines: LogLines | None = None
        if "task_log_line" in self._hooks.heard:
            self._lines = LogLines(self._hooks, self._clock)
            self._lines.start(stack)
        self._slots = Slots(self._parallelism)
        self._zygotes = Zygotes(
            [self._python, "-P", "-m", "aiflow_executor_local.zygote"],
            [
                str(self._home),
                str(self._idle_children),
                self._orphans,
                str(self._stop_grace),
                str(self._start_timeout),
            ],
            log_file=deployment.log_dir.absolute() / "executor-local.log",
            keep=self._warm_zygotes,
            start_timeout=self._start_timeout,
        )
        self._home.mkdir(parents=True, exist_ok=True)
        ready = threading.Event()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="executor-local", daemon=True
        )
        thread.start()
        ready.wait()
        stack.callback(thread.join)
        stack.callback(self._loop.call_soon_threadsafe, self._closing.set)

    def renew(self, until: float) -> None:
        # Processes live by the machine's clock, this executor by that of the deployment: the same,
        # except in tests. In this order, so that standing still in between takes time away.
        moment = Clock().monotonic()
        now = self._clock.monotonic()
        renewal = Renewal(at=moment, until=moment + until - now)
        self._loop.call_soon_threadsafe(self._renew, now, until, renewal)

    def submit(self, request: AttemptRequest) -> None:
        self._loop.call_soon_threadsafe(self._attend, request, True)

    def adopt(self, request: AttemptRequest) -> None:
        self._loop.call_soon_threadsafe(self._attend, request, False)

    def stop(self, key: AttemptKey) -> None:
        self._loop.call_soon_threadsafe(self._stop, key)

    def load(self) -> Load:
        return Load(self._slots.taken, self._slots.waiting, self._parallelism)

    def stop_all(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop_all(), self._loop).result()

    def executions(self) -> set[int]:
        return {int(path.name) for path in self._kept("*") if path.name.isdecimal()}

    def forget(self, workflow_execution_id: int) -> None:
        asyncio.run_coroutine_threadsafe(
            self._forget(int(workflow_execution_id)), self._loop
        ).result()

    # --- the loop ---

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        # Each attempt that is being stopped has a thread that waits for its end.
        self._loop.set_default_executor(ThreadPoolExecutor(self._parallelism + 8))
        self._closing = asyncio.Event()
        self._is_leased = asyncio.Event()
        self._is_leased.set()
        self._zygotes.prepare()
        self._spawn(self._remove_old_results())
        ready.set()
        await self._closing.wait()
        for attempt in self._attempts.values():
            attempt.ended.set()  # ends the wait for its end
        self._lease_changed.set()
        self._zygotes.close()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop itself would let go of it
        task.add_done_callback(self._tasks.discard)
        return task

    def _attend(self, request: AttemptRequest, may_start: bool) -> None:
        if request.key in self._attempts:
            return
        try:
            directory = RunDirectory(self._home, request.key)
            log = log_file(self._deployment.log_dir.absolute(), request.workflow_name, request.key)
        except AIFlowError as error:
            self._report(_failed(request.key, str(error)))
            return
        attempt = _Attempt(directory, log)
        if may_start and not directory.exists():
            self._see_through(attempt, self._run(attempt, request))
        else:
            self._take_over(attempt)

    def _take_over(self, attempt: "_Attempt") -> None:
        """The attempt was started before: it does not wait, and is not cancelled but stopped."""
        attempt.is_handed_over = True
        self._see_through(attempt, self._watch_in_slot(attempt))

    def _see_through(
        self, attempt: "_Attempt", work: Coroutine[Any, Any, AttemptReport | None]
    ) -> None:
        """Do the work, and report what comes of it, whatever happens."""
        self._attempts[attempt.key] = attempt
        attempt.task = self._spawn(work)
        attempt.task.add_done_callback(lambda task: self._conclude(attempt, task))

    def _conclude(self, attempt: "_Attempt", work: asyncio.Task[AttemptReport | None]) -> None:
        key = attempt.key
        attempt.started.set()
        attempt.ended.set()
        del self._attempts[key]
        if self._lines is not None:
            self._lines.end(key)
        if work.cancelled():
            if attempt.is_stopping:
                self._report(AttemptReport(key=key, status=TaskStatus.STOPPED))
        elif error := work.exception():
            log.error("The executor failed at attempt %s", key, exc_info=error)
            self._report(_failed(key, f"The executor failed: {_reason(error)}"))
        elif report := work.result():
            self._report(report)

    async def _run(self, attempt: "_Attempt", request: AttemptRequest) -> AttemptReport | None:
        """The final report; None when the attempt is not this server's to run."""
        await self._slots.acquire()
        try:
            return await self._start_claimed(attempt, request)
        except Exception as error:
            if not isinstance(error, AIFlowError):
                log.exception("Attempt %s could not be started", attempt.key)
            report = _failed(attempt.key, _reason(error))
            crash_point("executor.settle.before")
            is_settled = attempt.directory.settle(report)
            crash_point("executor.settle.after")
            return report if is_settled else await self._watch(attempt)
        finally:
            self._slots.release()

    async def _start_claimed(
        self, attempt: "_Attempt", request: AttemptRequest
    ) -> AttemptReport | None:
        """Claim it when everything else is done, so that what was claimed is started: also when
        all that is left to do is to say why it cannot be."""
        try:
            warmup, job = await self._prepare(request)
        except Exception:
            if await self._claimed_in(attempt) is None:
                return None
            raise
        term = await self._claimed_in(attempt)
        if term is None:
            return None
        environment = await self._asked(request)
        if environment:
            job = msgspec.structs.replace(job, environment=environment)
        for _ in range(_ZYGOTES):
            zygote = await self._zygotes.get(warmup)
            self._look_at_lease()
            if term != self._term:
                raise UnavailableError(LOST)
            report = await self._hand_over(attempt, zygote, job)
            if report is not None:
                return report
        raise UnavailableError(
            f"The process that starts tasks died before it started this one, {_ZYGOTES} times."
        )

    async def _prepare(self, request: AttemptRequest) -> tuple[Warmup, Job]:
        """Let there be a zygote that can run the job."""
        source, warmup = "", Warmup()
        if request.bundle is not None:
            source = str(await self._snapshot(request.bundle))
        if request.task.config.isolation == "fresh":
            needs_bundle(request)
        elif needs_bundle(request):
            assert request.bundle is not None
            warmup = Warmup(snapshot=source, entry=request.bundle.entry)
        else:
            warmup = Warmup(operator=request.task.operator)
        await self._zygotes.get(warmup)
        return warmup, Job(
            request=request,
            home=str(self._home),
            log_dir=str(self._deployment.log_dir.absolute()),
            notification_uri=self._deployment.notification_uri,
            server_address=self._deployment.server_address,
            snapshot=source,
        )

    async def _claimed_in(self, attempt: "_Attempt") -> int | None:
        """Ask whether this server may start the attempt, until there is an answer; the term in
        which it may, None when it may not."""
        while True:
            self._look_at_lease()
            await self._is_leased.wait()
            term = self._term
            if self._claim is alone:
                return term  # every attempt would pay for the way to a thread and back
            try:
                # In a thread: it may take as long as a database.
                crash_point("executor.claim.before")
                granted = await self._loop.run_in_executor(None, self._claim, attempt.key)
                crash_point("executor.claim.after")
                return term if granted else None
            except UnavailableError as error:
                log.warning("Nobody knows whether to start %s: %s", attempt.key, error)
            await asyncio.to_thread(self._clock.wait, attempt.ended, _ASK_AGAIN)

    async def _asked(self, request: AttemptRequest) -> dict[str, str]:
        """Ask the observers about an attempt that is this server's and would now start; what they
        want in its environment. `Veto` when one refuses: then it never will start."""
        if "before_task_start" not in self._hooks.heard:
            return {}
        ask = functools.partial(self._hooks.before_task_start, request=request)
        environment: dict[str, str] = await self._loop.run_in_executor(None, ask)
        return environment

    async def _hand_over(
        self, attempt: "_Attempt", zygote: Zygote, job: Job
    ) -> AttemptReport | None:
        """The final report; None when the zygote has died before it started the attempt. Should a
        child of it start it yet, another one finds that."""
        attempt.is_handed_over = True
        report = await zygote.run(job, lambda: self._started(attempt))
        if report is None and attempt.directory.exists():
            return await self._watch(attempt)
        return report

    async def _snapshot(self, bundle: BundleRef) -> Path:
        target = snapshot_directory(self._home, bundle)
        if target.is_dir():
            return target
        task = self._fetching.get(bundle.sha256)
        if task is None:
            task = self._spawn(asyncio.to_thread(fetch, self._home, bundle, self._blobs))
            self._fetching[bundle.sha256] = task
            task.add_done_callback(lambda done: self._fetching.pop(bundle.sha256, None))
        return await asyncio.shield(task)

    async def _watch_in_slot(self, attempt: "_Attempt") -> AttemptReport:
        self._slots.overdraw()
        try:
            return await self._watch(attempt)
        finally:
            self._slots.release()

    async def _watch(self, attempt: "_Attempt") -> AttemptReport:
        """Wait until nobody holds the lock of the run directory, then see how it ended."""
        directory = attempt.directory
        if directory.holder() is not None:
            attempt.is_watched = True
            self._pass_on_lease(attempt)
            self._started(attempt)
        while (leader := directory.leader()) is not None:
            await _end_of(leader, directory)
        while directory.holder() is not None:
            await asyncio.sleep(_LOOK)  # its zygote is cleaning up after it
        # Unless the zygote had died as well.
        group = directory.group()
        while group is not None and groups.kill_orphans(group):
            await asyncio.sleep(_LOOK)
        if not directory.exists():
            return _failed(attempt.key, VANISHED)
        crash_point("executor.conclude.before")
        report = directory.conclude(LOST if attempt.is_lost else VANISHED)
        crash_point("executor.conclude.after")
        return report

    def _started(self, attempt: "_Attempt") -> None:
        if not attempt.started.is_set():
            attempt.started.set()
            if self._lines is not None and attempt.log is not None:
                self._lines.follow(attempt.key, attempt.log, anew=not attempt.is_watched)
            self._report(AttemptReport(key=attempt.key, status=TaskStatus.RUNNING))

    def _report(self, report: AttemptReport) -> None:
        crash_point("executor.report.before")
        self._take_report(report)
        crash_point("executor.report.after")

    # --- the lease ---

    def _renew(self, now: float, until: float, renewal: Renewal) -> None:
        is_first = self._renewal is None
        self._look_at_lease(now)  # too late for what ran when the last one ended
        self._leased_until, self._renewal = until, renewal
        self._is_leased.set()
        self._lease_changed.set()
        self._tell_lease()
        if is_first:
            self._spawn(self._guard_lease())

    async def _guard_lease(self) -> None:
        """Notice the end of the lease when nothing else does."""
        while not self._closing.is_set():
            await self._is_leased.wait()
            self._lease_changed.clear()
            left = self._leased_until - self._clock.monotonic()
            await asyncio.to_thread(self._clock.wait, self._lease_changed, max(0.0, left))
            self._look_at_lease()

    def _look_at_lease(self, now: float | None = None) -> None:
        """End everything when the lease has ended. What begins after the next renewal belongs to
        another term, and the claims of this one do not count any more."""
        now = self._clock.monotonic() if now is None else now
        if now < self._leased_until or not self._is_leased.is_set():
            return
        self._is_leased.clear()
        self._term += 1
        moment = Clock().monotonic()
        self._renewal = Renewal(at=moment, until=0.0)
        self._tell_lease()

    def _tell_lease(self) -> None:
        assert self._renewal is not None
        self._zygotes.renew(self._renewal)
        for attempt in self._attempts.values():
            if attempt.is_watched:
                self._pass_on_lease(attempt)

    def _pass_on_lease(self, attempt: "_Attempt") -> None:
        """Extend, or end, an attempt whose zygote is gone, or hears only who started it."""
        if self._renewal is None:
            return
        try:
            attempt.directory.lend(self._renewal.until)
        except OSError:
            log.warning("The lease of %s cannot be extended", attempt.key, exc_info=True)
        leader = attempt.directory.leader()
        if leader is not None and not self._is_leased.is_set():
            attempt.is_lost = groups.send(leader, signal.SIGKILL)

    # --- stopping ---

    def _stop(self, key: AttemptKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            directory = RunDirectory(self._home, key)
            if directory.holder() is None:
                stopped = AttemptReport(key=key, status=TaskStatus.STOPPED)
                self._report(directory.result() or stopped)
                return
            attempt = _Attempt(directory)  # a former executor started it
            self._take_over(attempt)
        if attempt.is_stopping:
            return
        attempt.is_stopping = True
        if attempt.is_handed_over:
            self._spawn(self._end(attempt))
        else:
            attempt.task.cancel()

    async def _end(self, attempt: "_Attempt") -> None:
        """Gracefully, then by force; whoever waits for its end reports it."""
        await attempt.started.wait()
        directory = attempt.directory
        directory.request_stop()
        group = directory.leader()
        if group is None or not groups.send(group, signal.SIGTERM):
            return
        if await asyncio.to_thread(self._clock.wait, attempt.ended, self._stop_grace):
            return
        if directory.leader() == group:
            groups.send(group, signal.SIGKILL)

    async def _stop_all(self) -> None:
        tasks = [attempt.task for attempt in self._attempts.values()]
        for key in list(self._attempts):
            self._stop(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- tidying ---

    async def _remove_old_results(self) -> None:
        """The scheduler does not say when it has made a report durable; so they are kept long."""
        before = self._clock.now_ms() - self._keep_results * _DAY_MS
        await asyncio.to_thread(_remove_finished, self._home, before)

    async def _forget(self, execution_id: int) -> None:
        if any(key.workflow_execution_id == execution_id for key in self._attempts):
            return
        directories = list(self._kept(str(execution_id)))
        if await asyncio.to_thread(_is_alive, directories):
            return
        for directory in directories:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    def _kept(self, execution_id: str) -> Iterator[Path]:
        """The directories of an execution: its run directories, and where its tasks work."""
        yield from (self._home / "run").glob(execution_id)
        yield from (self._home / "working_dir").glob(f"*/{execution_id}")


class _Attempt:
    """An attempt from its submission to its final report."""

    def __init__(self, directory: RunDirectory, log: Path | None = None) -> None:
        self.key = directory.key
        self.directory = directory
        self.log = log
        self.task: asyncio.Task[AttemptReport | None]
        self.is_handed_over = False
        self.is_watched = False
        self.is_lost = False
        self.is_stopping = False
        self.started = asyncio.Event()
        self.ended = threading.Event()


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, AIFlowError) else f"{type(error).__name__}: {error}"


def _failed(key: AttemptKey, reason: str) -> AttemptReport:
    return AttemptReport(key=key, status=TaskStatus.FAILED, reason=reason)


async def _end_of(leader: int, directory: RunDirectory) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        descriptor = os.pidfd_open(leader)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        # Held fast now; a later process of the same number does not hold the lock.
        if directory.leader() == leader:
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def _is_alive(directories: list[Path]) -> bool:
    """Whether an attempt with one of these run directories still has a process."""
    return any(is_held(lock) for directory in directories for lock in directory.glob("*/lock"))


def _remove_finished(home: Path, before_ms: float) -> None:
    """The run directories of attempts that are over, and what they never came to be."""
    for result in (home / "run").glob("*/*/result.json"):
        if result.stat().st_mtime * 1000 < before_ms:
            shutil.rmtree(result.parent, ignore_errors=True)
    for draft in drafts(home).glob("*"):
        if draft.stat().st_mtime * 1000 < before_ms and not is_held(draft / "lock"):
            shutil.rmtree(draft, ignore_errors=True)
