"""Lets go of what is older than it is to be kept."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, UnavailableError, UsageError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor
from aiflow_scheduler_event.history import History
from aiflow_scheduler_event.membership import Membership
from aiflow_scheduler_event.store import LostRaceError

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 600.0
_SHORTEST_PAUSE = 1.0

# Things that one transaction deletes: short enough for the steps that wait for it.
_EXECUTIONS_AT_ONCE = 20
_ROWS_AT_ONCE = 500
_BUNDLES_AT_ONCE = 5


class Retention:
    """Deletes what is past. `run` is the body of a thread; `sweep` is what it does each time.

    The leader deletes what is in the database, the log and the blob store; each server the logs and
    the run directories on its own machine, of executions that are gone.
    """

    def __init__(
        self,
        history: History,
        membership: Membership,
        events: EventStore,
        executor: Executor,
        blobs: BlobManager,
        clock: Clock,
        log_dir: Path,
        keep_ms: int,
    ) -> None:
        """`keep_ms`: for how many milliseconds what has ended is kept."""
        self._history = history
        self._membership = membership
        self._events = events
        self._executor = executor
        self._blobs = blobs
        self._clock = clock
        self._log_dir = log_dir
        self._keep_ms = keep_ms
        self._closed = threading.Event()

    def close(self) -> None:
        """End `run`."""
        self._closed.set()

    def run(self) -> None:
        """Sweep again and again, until closed. What cannot be done now is done the next time."""
        pause = max(_SHORTEST_PAUSE, min(_LONGEST_PAUSE, self._keep_ms / 10_000))
        while not self._clock.wait(self._closed, pause):
            try:
                self.sweep()
            except (UnavailableError, LostRaceError) as error:
                log.info("Old executions stay for now: %s", error)
            except (AIFlowError, OSError) as error:
                log.warning("Old executions cannot be deleted: %s", error)

    def sweep(self) -> None:
        """Delete all that is past, a few things at a time."""
        # The clock of one machine alone, which may have been set wrong, makes nothing old.
        before_ms = min(self._clock.now_ms(), self._history.now_ms()) - self._keep_ms
        epoch = self._membership.epoch
        if epoch is not None:
            self._sweep_database(epoch, before_ms)
        self._sweep_own(before_ms)

    def _sweep_database(self, epoch: int, before_ms: int) -> None:
        history, old = self._history, (epoch, before_ms)
        self._all(_EXECUTIONS_AT_ONCE, history.erase_executions, *old)
        self._all(_ROWS_AT_ONCE, history.erase_task_executions, *old)
        self._all(_ROWS_AT_ONCE, history.erase_dead_letters, *old)
        self._all(_ROWS_AT_ONCE, history.erase_snapshots, *old)
        forget = partial(history.forget_bundles, forget=self._forget_blob)
        self._all(_BUNDLES_AT_ONCE, forget, epoch)
        # After the letters: their events may go with them.
        first_kept = min(self._events.offset_at(before_ms) + 1, history.first_needed_offset())
        self._all(_ROWS_AT_ONCE, history.erase_decisions, epoch, first_kept)
        if first_kept > 1 and not self._closed.is_set():
            self._events.truncate(first_kept)

    def _all(self, at_once: int, erase: Callable[..., int], *what: int) -> None:
        while not self._closed.is_set() and erase(*what, most=at_once) == at_once:
            pass

    def _forget_blob(self, uri: str) -> None:
        try:
            self._blobs.delete(uri)
        except UsageError as error:
            # Of a blob manager of before. It would be in the way of all others for ever.
            log.warning("The code of an old upload stays where it is: %s", error)

    def _sweep_own(self, before_ms: int) -> None:
        for execution_id in self._history.missing(self._executor.executions()):
            self._executor.forget(execution_id)
        logs = dict(self._logs())
        gone = self._history.missing({execution_id for execution_id in logs.values()})
        for directory, execution_id in logs.items():
            if execution_id in gone and _last_change(directory) < before_ms:
                shutil.rmtree(directory, ignore_errors=True)

    def _logs(self) -> Iterator[tuple[Path, int]]:
        """The directories of logs, and the executions whose they are; see `deployment.log_file`."""
        for directory in self._log_dir.glob("*/*"):
            if directory.name.isdecimal() and directory.is_dir():
                yield directory, int(directory.name)


def _last_change(directory: Path) -> float:
    """When something in the directory was last written, in milliseconds since the epoch."""
    return max(p.stat().st_mtime for p in (directory, *directory.rglob("*"))) * 1000
