class MineScheduler:
    def __init__(self):
        from aiflow_core.testing.scheduler import MemoryScheduler

        self.inner = MemoryScheduler()


class TestMineScheduler:
    def bury(self, scheduler):
        from aiflow_core.testing.scheduler import burier

        return burier(scheduler.inner)
