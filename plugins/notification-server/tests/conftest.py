"""A served log."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.event_store import RemoteEventStore

HEARTBEAT = 0.05


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(clock: ManualClock) -> Iterator[MemoryEventStore]:
    """The log itself, behind the server."""
    store = MemoryEventStore(clock)
    yield store
    store.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def address(log: MemoryEventStore, stack: ExitStack) -> str:
    """Where a server serves the log."""
    return NotificationEndpoint(port=0, heartbeat=HEARTBEAT).start(stack, log, None)


@pytest.fixture
def connect(address: str, stack: ExitStack) -> Callable[[], RemoteEventStore]:
    """Makes a client of the server."""

    def connect() -> RemoteEventStore:
        store = RemoteEventStore(address)
        stack.callback(store.close)
        return store

    return connect
