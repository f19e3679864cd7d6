"""The scheduler in memory keeps the promises of a scheduler."""

from collections.abc import Callable

import pytest

from aiflow_core.testing.scheduler import MemoryScheduler, SchedulerContract, burier


class TestMemoryScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self) -> MemoryScheduler:
        return MemoryScheduler()

    @pytest.fixture
    def bury(self, scheduler: MemoryScheduler) -> Callable[[], int]:
        return burier(scheduler)
