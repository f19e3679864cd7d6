class MineExecutor:
    def __init__(self):
        from aiflow_executor_local.executor import LocalExecutor

        self.inner = LocalExecutor(parallelism=self.parallelism)
