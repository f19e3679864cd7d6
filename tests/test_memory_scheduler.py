"""The scheduler in memory keeps the promises of a scheduler."""

import pytest

from aiflow_core.testing.scheduler import MemoryScheduler, SchedulerContract


class TestMemoryScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self) -> MemoryScheduler:
        return MemoryScheduler()
