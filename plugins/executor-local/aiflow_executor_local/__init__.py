"""Runs tasks as processes of this machine: `aiflow_executor_local.executor.LocalExecutor`."""

aiflow_api = ">=1,<2"
