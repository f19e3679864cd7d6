"""The client of a served scheduler is a scheduler."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from aiflow_core.specs.event_store import EventStore
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.scheduler import MemoryScheduler, SchedulerContract, burier
from aiflow_server import RemoteScheduler, RpcEndpoint


class TestRemoteScheduler(SchedulerContract):
    @pytest.fixture
    def served(self) -> MemoryScheduler:
        return MemoryScheduler()

    @pytest.fixture
    def bury(self, served: MemoryScheduler) -> Callable[[], int]:
        return burier(served)

    @pytest.fixture
    def scheduler(self, served: MemoryScheduler) -> Iterator[RemoteScheduler]:
        events: EventStore = MemoryEventStore()
        with ExitStack() as stack:
            stack.callback(events.close)
            address = RpcEndpoint(port=0).start(stack, events, served)
            yield stack.enter_context(RemoteScheduler(address))
