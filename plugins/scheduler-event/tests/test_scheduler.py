"""The event scheduler as a whole: its contract, and what crashes and outages leave of it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.deployment import Deployment
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.executor import Report
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.executor import MemoryExecutor
from aiflow_core.testing.scheduler import SchedulerContract, wait_until
from aiflow_scheduler_event.scheduler import EventScheduler


class Site:
    """What outlives a scheduler: the database, the log, and the attempts that run."""

    def __init__(self, uri: str, home: Path) -> None:
        self.uri = uri
        self.home = home
        self.clock = ManualClock()
        self.events = WaywardEventStore(self.clock)
        self.executor = RecordingExecutor()
        self.stack = ExitStack()

    def start(self, **settings: Any) -> EventScheduler:
        """Start a scheduler here."""
        scheduler = EventScheduler(self.uri, **{"command_timeout": 20.0, **settings})
        deployment = Deployment(
            home=self.home,
            log_dir=self.home / "logs",
            notification_uri="127.0.0.1:50052",
            clock=self.clock,
        )
        scheduler.start(self.stack, deployment, self.events, self.executor, MemoryBlobManager())
        return scheduler

    def leave(self) -> None:
        """End the scheduler; nothing else is told that it ends."""
        self.stack.close()

    def restart(self) -> EventScheduler:
        self.leave()
        self.executor.calls.clear()
        return self.start()

    def send(self, key: str, value: str | None = None, **more: Any) -> Event:
        (stored,) = self.events.append([Event(key, value, namespace="default", **more)])
        return stored

    def end(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """Let a running attempt end."""
        wait_until(lambda: key in self.executor.running, f"{key} runs")
        self.executor.end(key, status, reason)


class RecordingExecutor(MemoryExecutor):
    """Keeps what it was asked to do, and may keep silent about what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, AttemptKey]] = []
        self.deaf_to_stop = False
        self.silent = False

    def start(
        self, stack: ExitStack, deployment: Deployment, blobs: BlobManager, report: Report
    ) -> None:
        def tell(said: AttemptReport) -> None:
            if not self.silent:
                report(said)

        super().start(stack, deployment, blobs, tell)

    def submit(self, request: AttemptRequest) -> None:
        self.calls.append(("submit", request.key))
        super().submit(request)

    def adopt(self, request: AttemptRequest) -> None:
        if ("submit", request.key) not in self.calls:
            self.calls.append(("adopt", request.key))
        super().adopt(request)

    def stop(self, key: AttemptKey) -> None:
        self.calls.append(("stop", key))
        if not self.deaf_to_stop:
            super().stop(key)


class WaywardEventStore(MemoryEventStore):
    """A log that can be away for a while."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.away = False
        self.refused = 0

    def append(self, events: Any) -> list[Event]:
        self._check()
        return super().append(events)

    def head(self) -> int:
        self._check()
        return super().head()

    def subscribe(self, after: int, filter: EventFilter = EventFilter()) -> Any:  # noqa: B008
        self._check()
        return super().subscribe(after, filter)

    def _check(self) -> None:
        if self.away:
            self.refused += 1
            raise UnavailableError("The log is away.")


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(database_url, tmp_path)
    fresh = EventScheduler(database_url)
    fresh.initialize()
    fresh.close()
    yield site
    site.leave()


class TestEventScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self, site: Site) -> EventScheduler:
        return site.start()
