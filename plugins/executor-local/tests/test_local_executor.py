from aiflow_core.specs.executor import Executor
from aiflow_core.testing.executor import ExecutorContract
from aiflow_executor_local.executor import LocalExecutor


class TestLocalExecutor(ExecutorContract):
    def make(self) -> Executor:
        return LocalExecutor(parallelism=self.parallelism)
