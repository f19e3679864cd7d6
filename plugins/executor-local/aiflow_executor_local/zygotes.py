"""The executor's side of its zygotes: started when first needed, kept, and given jobs."""

import asyncio
import logging
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from aiflow_core.crash import crash_point
from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey, AttemptReport
from aiflow_core.model.serialization import decode
from aiflow_core.model.status import TaskStatus
from aiflow_executor_local.messages import Job, Notice, Ready, Renewal, Warmup, line

log = logging.getLogger(__name__)

_LINE_LIMIT = 1024 * 1024


class Zygote:
    """A connection to a zygote that is warm."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._jobs: dict[AttemptKey, tuple[asyncio.Future[Notice | None], Callable[[], None]]] = {}
        self._listener: asyncio.Task[None] | None = None
        self.is_alive = True

    @property
    def is_busy(self) -> bool:
        return bool(self._jobs)

    @property
    def has_died(self) -> bool:
        """Whether it was seen to close its end; to be asked before it is warm."""
        return self._reader.at_eof()

    async def warm_up(self, warmup: Warmup) -> None:
        """Let it import what the attempts will need; `UnavailableError` with the reason when that
        fails."""
        self._writer.write(line(warmup))
        try:
            answer = await self._reader.readline()
        except ConnectionError:
            answer = b""
        if not answer:
            raise UnavailableError("The process that prepares tasks died while it prepared.")
        ready = decode(answer, Ready)
        if ready.problem:
            raise UnavailableError(ready.problem)
        self._listener = asyncio.create_task(self._listen())

    async def run(self, job: Job, on_running: Callable[[], None]) -> AttemptReport | None:
        """Run the attempt and return its final report; None when somebody else runs it, or when
        the zygote died, so that the run directory must tell."""
        ended: asyncio.Future[Notice | None] = asyncio.get_running_loop().create_future()
        self._jobs[job.request.key] = ended, on_running
        crash_point("executor.hand_over.before")
        self._writer.write(line(job))
        crash_point("executor.hand_over.after")
        try:
            notice = await ended
        finally:
            self._jobs.pop(job.request.key, None)
        return None if notice is None or notice.taken else notice.report

    def renew(self, renewal: Renewal) -> None:
        """Tell it until when its attempts may run."""
        self._writer.write(line(renewal))

    def close(self) -> None:
        """Let it go: it ends when its last attempt has."""
        self.is_alive = False
        self._writer.close()
        if self._listener is not None:
            self._listener.cancel()

    async def _listen(self) -> None:
        try:
            while text := await self._reader.readline():
                notice = decode(text, Notice)
                if notice.report.key not in self._jobs:
                    continue
                ended, on_running = self._jobs[notice.report.key]
                if notice.report.status is TaskStatus.RUNNING:
                    on_running()
                elif not ended.done():
                    ended.set_result(notice)
        except ConnectionError:
            log.debug("A zygote closed its connection", exc_info=True)
        finally:
            self.is_alive = False
            self._writer.close()
            for ended, _ in self._jobs.values():
                if not ended.done():
                    ended.set_result(None)


class Zygotes:
    """One warm zygote per warm-up, the least recently used dropped, and a cold one in reserve."""

    def __init__(
        self,
        command: list[str],
        arguments: list[str],
        log_file: Path,
        keep: int,
        start_timeout: float,
    ) -> None:
        """`command` starts the program; `arguments` follow the number of its socket."""
        self._command = command
        self._arguments = arguments
        self._log_file = log_file
        self._keep = keep
        self._start_timeout = start_timeout
        self._warm: dict[Warmup, asyncio.Task[Zygote]] = {}
        self._spare: asyncio.Task[Zygote] | None = None
        self._renewal: Renewal | None = None

    def prepare(self) -> None:
        """Start the next zygote before anybody needs it."""
        if self._spare is None:
            self._spare = asyncio.create_task(self._spawn())
            # It may fail and nobody ask; who asks is told.
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def get(self, warmup: Warmup) -> Zygote:
        """The zygote with that warm-up; `UnavailableError` when it cannot be had. A failure is not
        remembered: the next caller tries again."""
        while True:
            task = self._warm.pop(warmup, None) or asyncio.create_task(self._start(warmup))
            self._warm[warmup] = task
            self._drop_surplus()
            try:
                zygote = await asyncio.shield(task)
            except Exception:
                self._drop(warmup, task)
                raise
            if zygote.is_alive:
                return zygote
            self._drop(warmup, task)

    def renew(self, renewal: Renewal) -> None:
        """Tell all of them, also those to come, until when attempts may run."""
        self._renewal = renewal
        for task in self._warm.values():
            if task.done() and not task.exception() and task.result().is_alive:
                task.result().renew(renewal)

    def close(self) -> None:
        """Let all of them go."""
        for task in (*self._warm.values(), *([self._spare] if self._spare else [])):
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception() is None:
                task.result().close()
        self._warm.clear()
        self._spare = None

    def _drop(self, warmup: Warmup, task: asyncio.Task[Zygote]) -> None:
        if self._warm.get(warmup) is task:
            del self._warm[warmup]

    def _drop_surplus(self) -> None:
        idle = [
            (warmup, task)
            for warmup, task in self._warm.items()
            if task.done() and not task.exception() and not task.result().is_busy
        ]
        for warmup, task in idle[: max(0, len(self._warm) - self._keep)]:
            task.result().close()
            del self._warm[warmup]

    async def _start(self, warmup: Warmup) -> Zygote:
        zygote = await self._take_spare()
        try:
            async with asyncio.timeout(self._start_timeout):
                await zygote.warm_up(warmup)
        except TimeoutError as error:
            zygote.close()
            raise UnavailableError(
                f"Importing what the task needs took longer than {self._start_timeout:g} s.",
                next_step="Do not wait or work at the top level of a workflow file.",
            ) from error
        except BaseException:
            zygote.close()
            raise
        if self._renewal is not None:
            zygote.renew(self._renewal)
        self.prepare()
        return zygote

    async def _take_spare(self) -> Zygote:
        """The one in reserve, or, where something happened to it meanwhile, a new one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                zygote = await spare
            except UnavailableError:
                log.debug("The zygote in reserve did not start", exc_info=True)
            else:
                if not zygote.has_died:
                    return zygote
                zygote.close()
        return await self._spawn()

    async def _spawn(self) -> Zygote:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                code = await asyncio.to_thread(self._launch, theirs)
            except OSError as error:
                ours.close()
                raise UnavailableError(
                    f"The interpreter {self._command[0]} does not start: {error.strerror}.",
                    next_step="Check the setting `python` of the local executor.",
                ) from error
            except BaseException:
                ours.close()
                raise
        if code != 0:
            ours.close()
            raise UnavailableError(
                f"The interpreter {self._command[0]} cannot run tasks (exit code {code}).",
                next_step=f"AIFlow must be installed for it; see {self._log_file}.",
            )
        return Zygote(*await asyncio.open_unix_connection(sock=ours, limit=_LINE_LIMIT))

    def _launch(self, theirs: socket.socket) -> int:
        """Exit code of the process that was started, which ends when the zygote has detached."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        crash_point("executor.spawn.before")
        with self._log_file.open("ab") as output:
            detached = subprocess.run(
                [*self._command, str(theirs.fileno()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        crash_point("executor.spawn.after")
        return detached.returncode
