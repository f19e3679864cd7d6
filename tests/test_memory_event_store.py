"""The log in memory keeps the promises of a log."""

from collections.abc import Iterator

import pytest

from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import EventStoreContract, MemoryEventStore


class TestMemoryEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Iterator[MemoryEventStore]:
        store = MemoryEventStore(clock)
        yield store
        store.close()
